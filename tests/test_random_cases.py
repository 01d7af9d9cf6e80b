"""Every layer type with random legal parameters against BVLC Caffe.

tests/golden/random.npz holds what tests/oracle/record_random.py recorded there.
"""

import numpy as np
import pytest

import caffe
import catalogue_judge
import data_cases
import random_cases
import random_judge
import random_nets
from caffe.proto import caffe_pb2

BVLC_TYPES = [
    "AbsVal",
    "Accuracy",
    "ArgMax",
    "BNLL",
    "BatchNorm",
    "BatchReindex",
    "Bias",
    "Clip",
    "Concat",
    "ContrastiveLoss",
    "Convolution",
    "Crop",
    "Data",
    "Deconvolution",
    "Dropout",
    "DummyData",
    "ELU",
    "Eltwise",
    "Embed",
    "EuclideanLoss",
    "Exp",
    "Filter",
    "Flatten",
    "HDF5Data",
    "HDF5Output",
    "HingeLoss",
    "Im2col",
    "ImageData",
    "InfogainLoss",
    "InnerProduct",
    "Input",
    "LRN",
    "LSTM",
    "LSTMUnit",
    "Log",
    "MVN",
    "MemoryData",
    "MultinomialLogisticLoss",
    "PReLU",
    "Parameter",
    "Pooling",
    "Power",
    "Python",
    "RNN",
    "ReLU",
    "Reduction",
    "Reshape",
    "SPP",
    "Scale",
    "Sigmoid",
    "SigmoidCrossEntropyLoss",
    "Silence",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
    "Tile",
    "WindowData",
]
LEAST = 10  # rows of a type


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with the files that data layers read."""
    path = tmp_path_factory.mktemp("data")
    data_cases.write_files(caffe_pb2, str(path))
    return path


@pytest.fixture(scope="module")
def golden():
    return random_judge.load()


@pytest.mark.parametrize("type", BVLC_TYPES)
def test_random_parameters_agree_with_bvlc_caffe(golden, folder, type):
    count, failures = random_judge.failures(golden, random_judge.digests(type, 0, folder))
    assert count >= LEAST
    assert not failures, "\n".join(failures)


def test_random_nets_agree_with_bvlc_caffe(golden):
    count, failures = random_judge.failures(golden, random_judge.nets(0), 0, random_judge.NET_SMALL)
    assert count == random_nets.NETS
    assert not failures, "\n".join(failures)


def test_every_type_of_bvlc_caffe_is_there_and_judged():
    assert set(BVLC_TYPES) <= set(caffe.layer_type_list())
    assert sorted(BVLC_TYPES) == random_judge.TYPES


def test_rows_of_a_type_differ():
    for type in random_cases.DRAWERS:
        assert len({case.prototxt() for case in random_cases.rows(type, 0)}) >= LEAST - 2


def test_tolerances_are_those_promised():
    """At most 1e-4 relative, most rows at 1e-6."""
    rows = catalogue_judge.JUDGED + [
        case for type in random_cases.DRAWERS for case in random_cases.rows(type, 0)
    ]
    tolerances = [case.tolerance for case in rows]
    assert max(tolerances) <= 1e-4
    assert sum(tolerance <= 1e-6 for tolerance in tolerances) > 0.6 * len(tolerances)


def test_a_digest_tells_a_wrong_value():
    array = np.random.RandomState(1).normal(size=(3, 4))
    wrong = array.copy()
    wrong[1, 2] += 1e-3
    digests = [random_cases.digest({"top": values}, "row")["top"][1] for values in (array, wrong)]
    norm = np.linalg.norm(array)
    assert 1e-4 / norm < catalogue_judge.error(*digests) < 1e-2 / norm
