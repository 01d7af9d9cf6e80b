"""The work that `caffe time` counts, by hand, and the lines that it prints."""

import re
import subprocess
import sys

import pytest
from google.protobuf import text_format

import caffe
from caffe.command.roofline import Roofline, Work, backward_work, forward_work
from caffe.proto import caffe_pb2

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 5 bias_term: false } }
layer { name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 }
"""  # noqa: E501
DATA, CONV, FC = 2 * 3 * 8 * 8, 2 * 4 * 6 * 6, 2 * 5  # values
CONV_WEIGHTS, FC_WEIGHTS = 4 * 3 * 3 * 3, 5 * 4 * 6 * 6


@pytest.fixture
def nodes():
    net = caffe.Net(text_format.Parse(NET, caffe_pb2.NetParameter()), caffe.TRAIN)
    return {node.name: node for node in net.nodes}


def test_forward_work(nodes):
    assert forward_work(nodes["conv"]) == (2 * 27 * CONV, 4 * (DATA + CONV + CONV_WEIGHTS))
    assert forward_work(nodes["fc"]) == (2 * 144 * FC, 4 * (CONV + FC + FC_WEIGHTS))
    assert forward_work(nodes["relu"]) == (CONV, 4 * 2 * CONV)


def test_backward_work(nodes):
    # the first convolution has one gradient to compute, that of its weights; fc has two
    assert backward_work(nodes["conv"]) == (2 * 27 * CONV, 4 * (CONV + DATA + 2 * CONV_WEIGHTS))
    assert backward_work(nodes["fc"]) == (2 * 2 * 144 * FC, 4 * (FC + CONV + CONV + 2 * FC_WEIGHTS))
    assert backward_work(nodes["relu"]) == (CONV, 4 * (CONV + CONV + CONV))


def test_the_share_is_of_whatever_limits():
    roofline = Roofline.__new__(Roofline)
    roofline.gflops, roofline.gbps = 100.0, 10.0
    assert roofline.rates(Work(5e7, 1e6), 1.0) == "50.0 GFLOP/s, 1.00 GB/s, 50% of the roofline"
    assert roofline.rates(Work(1e6, 8e6), 1.0) == "1.0 GFLOP/s, 8.00 GB/s, 80% of the roofline"


def test_caffe_time_prints_it(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    command = [sys.executable, "-m", "caffe", "time", "-model", "net.prototxt", "-iterations", "1"]
    done = subprocess.run(
        [*command, "-roofline"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert re.search(r"Roofline: \d+ GFLOP/s, [\d.]+ GB/s, measured", done.stderr)
    for name in ("conv", "relu", "fc"):
        for way in ("forward", "backward"):
            assert re.search(
                rf"{name}\t{way}: [\d.]+ GFLOP/s, [\d.]+ GB/s, \d+% of the roofline", done.stderr
            ), (name, way)
