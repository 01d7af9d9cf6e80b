"""Arrays of blobs: C-ordered, live, and without effect on what is computed.

tests/golden/arrays.json holds what tests/oracle/record_arrays.py recorded with BVLC Caffe.
"""

import ctypes
import gc
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import array_cases
import array_modes
import caffe
import catalogue_cases
import catalogue_judge
from caffe.proto import caffe_pb2

GOLDEN = json.loads((Path(__file__).parent / "golden" / "arrays.json").read_text())


def flat(found):
    """Every number in nested lists and dicts, in order."""
    if isinstance(found, dict):
        found = [found[name] for name in sorted(found)]
    return [x for part in found for x in flat(part)] if isinstance(found, list) else [found]


def test_every_case_is_recorded():
    assert sorted(GOLDEN) == sorted(array_cases.CASES)


@pytest.mark.parametrize("name", GOLDEN)
def test_arrays_agree_with_bvlc_caffe(name):
    np.testing.assert_allclose(flat(array_cases.CASES[name]()), flat(GOLDEN[name]), rtol=1e-6)


# ---- saved values --------------------------------------------------------------------------------

IN_PLACE = [
    'type: "PReLU"',
    'type: "Scale" scale_param { bias_term: true filler { type: "constant" value: 3 } }',
    'type: "BatchNorm"',
    'type: "ELU"',
    'type: "Power" power_param { power: 2 shift: 1 }',
    'type: "Exp"',
    'type: "Swish"',
    'type: "Sigmoid"',
    'type: "TanH"',
    'type: "BNLL"',
    'type: "MVN"',
    'type: "Log" log_param { shift: 40 }',
    'type: "Softmax"',
    'type: "Clip" clip_param { min: -0.5 max: 0.5 }',
    'type: "ReLU" relu_param { negative_slope: -0.1 }',
    'type: "ReLU" relu_param { negative_slope: 0.1 }',
    'type: "LRN"',
    'type: "Dropout"',
    'type: "Bias"',
]
ABOVE = """
input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 } force_backward: true
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 3 kernel_size: 2
                            weight_filler { type: "gaussian" std: 1 } } }
layer { name: "act" bottom: "y" top: "y" %s }
layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def make(text, phase=caffe.TRAIN):
    return caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), phase)


def gradients(text, hold):
    """The diffs of the input and of all parameters in three passes; `hold` keeps arrays alive."""
    caffe.set_random_seed(5)
    net, random, found, kept = make(text), np.random.RandomState(3), [], []
    for _ in range(3):
        net.blobs["x"].data[...] = random.randn(*net.blobs["x"].shape)
        net.clear_param_diffs()
        kept += hold(net)
        net.forward()
        net.backward()
        blobs = [net.blobs["x"], *(blob for blobs in net.params.values() for blob in blobs)]
        found += [blob.diff.copy() for blob in blobs]
    return found


def output(net):
    """What users hold: a dict of outputs, and the blob above which a layer ran in place."""
    return [net.forward(), net.blobs["y"].data]


@pytest.mark.parametrize("layer", IN_PLACE)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_held_array_changes_no_gradient(layer, precision):
    caffe.set_precision(precision)
    try:
        expected = gradients(ABOVE % layer, lambda net: [output(net) and None])
        found = gradients(ABOVE % layer, output)
    finally:
        caffe.set_precision("fp32")
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_an_edit_after_forward_leaves_what_a_layer_in_place_has_saved():
    """As in Caffe, whose Scale keeps its input: what backward reads is not the blob."""
    net = make(ABOVE % IN_PLACE[1])
    net.blobs["x"].data[...] = np.random.RandomState(0).randn(2, 3, 4, 5)
    y = net.blobs["y"].data
    net.forward(end="conv")
    before = y.copy()
    net.forward(start="act")
    y[...] = 99
    net.blobs["y"].diff[...] = 1
    net.backward(start="act")
    np.testing.assert_allclose(net.params["act"][0].diff, before.sum((0, 2, 3)), rtol=1e-4)


# ---- who may write -------------------------------------------------------------------------------


def fill_by_pointer(array, value):
    ctypes.memset(array.ctypes.data, 0, array.nbytes)
    pointer = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    for i in range(array.size):
        pointer[i] = value


def fill_by_torch(array, value):
    torch.from_numpy(array).fill_(value)


def fill_by_buffer(array, value):
    memoryview(array).cast("B")[:] = np.full(array.size, value, np.float32).tobytes()


def fill_transposed(array, value):
    array.T[...] = value


@pytest.mark.parametrize("fill", [fill_by_pointer, fill_by_torch, fill_by_buffer, fill_transposed])
def test_whoever_writes_into_memory_is_seen(fill):
    net = array_cases.plain()
    weight = net.params["conv"][0].data
    for value in (1, 2):
        fill(net.blobs["x"].data, value)
        fill(weight, value)
        net.forward()
        assert (net.blobs["conv"].data == 18 * value * value + 1).all()
    keeper = torch.from_numpy(net.blobs["x"].data)
    net.forward()
    gc.collect()
    keeper[...] = 3
    net.forward()
    assert (net.blobs["conv"].data == 18 * 3 * 2 + 1).all()


def test_the_same_bits_count_as_unchanged_and_others_do_not():
    """0 and -0 compare equal, NaN compares unequal to itself."""
    net = make('input: "x" input_shape { dim: 1 dim: 2 }')
    blob, tensors = net.blobs["x"], []
    held = blob.data
    for values in ([0, 1], [-0.0, 1], [-0.0, np.nan]):
        held[...] = [values]
        tensors.append(blob.tensor)
        assert blob.tensor is tensors[-1]
        assert tensors[-1].numpy().tobytes() == np.array([values], np.float32).tobytes()
    assert len({id(tensor) for tensor in tensors}) == 3


def test_bf16_uses_weights_written_into_a_held_array():
    caffe.set_precision("bf16")
    try:
        net = array_cases.plain()
        net.blobs["x"].data[...] = 1
        weight, bias = (blob.data for blob in net.params["conv"])
        assert weight.dtype == bias.dtype == net.blobs["conv"].data.dtype == np.float32
        for value in (1, 2, 4):
            weight[...] = value
            bias.ravel()[:] = value
            net.forward()
            assert (net.blobs["conv"].data == 19 * value).all()
    finally:
        caffe.set_precision("fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_is_seen_in_held_arrays_and_used(tmp_path, precision):
    """Gradient of the sum of all outputs: the input's windows; rate 1."""
    net_file = tmp_path / "net.prototxt"
    net_file.write_text(array_cases.LEARNING.replace("force_backward: true", ""))
    solver_file = tmp_path / "solver.prototxt"
    solver_file.write_text(f'net: "{net_file}" base_lr: 1 lr_policy: "fixed" max_iter: 9')
    caffe.set_precision(precision)
    try:
        solver = caffe.SGDSolver(str(solver_file))
        solver.net.blobs["x"].data[...] = 1
        weight = solver.net.params["conv"][0].data
        loss = solver.net.blobs["loss"].data
        solver.step(1)  # 8 windows of each of 3 channels win, each by 0.25
        assert (weight == 0.5 - 2).all()
        assert loss == 24 * (18 * 0.5 + 1)
        solver.step(1)
        assert (weight == 0.5 - 4).all()
        assert loss == 24 * (18 * -1.5 + 1 - 2)
    finally:
        caffe.set_precision("fp32")


# ---- who holds nothing pays nothing --------------------------------------------------------------


@pytest.mark.unlooked
def test_arrays_that_are_gone_cost_neither_memory_nor_copies():
    net = array_cases.plain(array_cases.LEARNING)
    for blob in [*net.blobs.values(), *net.params["conv"]]:
        assert blob.data.size and blob.diff.size
    net.forward()
    net.backward()
    net.forward()
    for name in ("conv", "pool"):
        assert net.blobs[name].store("data")._mirror is None, name
    for blob in [*net.blobs.values(), *net.params["conv"]]:
        assert blob.tensor is blob.tensor and not blob.store("data")._open


def test_repeated_reading_hands_out_the_same_memory():
    net = array_cases.plain()
    net.forward()
    one, other = net.blobs["conv"].data, net.blobs["conv"].data
    assert one is not other and np.shares_memory(one, other)


# ---- three ways of running -----------------------------------------------------------------------

SAMPLE = [case for case in catalogue_judge.JUDGED if case.backward and case.tops]
SAMPLE = list({case.type: case for case in SAMPLE}.values())


@pytest.mark.parametrize("mode", array_modes.MODES)
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.type)
def test_who_looks_changes_nothing(case, mode):
    """`make test-arrays` runs the whole differential suite in either way."""
    expected = catalogue_cases.run(catalogue_judge.make_net(case), case, 0)
    with array_modes.looking(mode):
        found = catalogue_cases.run(catalogue_judge.make_net(case), case, 0)
    for what, array in expected.items():
        np.testing.assert_allclose(found[what], array, rtol=1e-5, atol=1e-6, err_msg=what)


def test_what_is_written_into_one_array_is_kept_when_the_engine_writes_the_other(tmp_path):
    """Weights that are loaded leave the diff alone, and statistics that are measured, too."""
    net = bn_net()
    weights, stats = net.params["fc"][0], net.params["bn"][0]
    path = str(tmp_path / "w.caffemodel")
    net.save(path)
    for blob in (weights, stats):
        blob.diff_tensor = torch.zeros(blob.shape)
    diffs = [weights.diff, stats.diff]
    for diff in diffs:
        diff[...] = 7
    net.copy_from(path)
    net.forward()
    assert (diffs[0] == 7).all() and (diffs[1] == 7).all()
    assert (weights.diff_tensor == 7).all() and (stats.diff_tensor == 7).all()


def bn_net():
    return caffe.Net(
        text_format.Parse(
            """
            layer { name: "data" type: "Input" top: "data"
                    input_param { shape { dim: 4 dim: 3 } } }
            layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                    inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
            layer { name: "bn" type: "BatchNorm" bottom: "fc" top: "bn" }
            """,
            caffe_pb2.NetParameter(),
        ),
        caffe.TRAIN,
    )
