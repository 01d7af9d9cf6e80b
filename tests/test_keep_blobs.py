"""net.keep_blobs = False: what is not made cannot be read, and everything else is the same."""

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

BLOCK = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 16 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1
                            weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "conv" top: "sum" SUM }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "loss" type: "Reduction" bottom: "sum" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def make(options=""):
    caffe.set_random_seed(0)
    param = text_format.Parse(BLOCK.replace("SUM }", options + " }", 1), caffe_pb2.NetParameter())
    net = caffe.Net(param, caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.RandomState(1).randn(2, 16, 5, 5)
    return net


def test_what_is_not_kept_cannot_be_read():
    net = make()
    kept = net.forward(blobs=["conv"])
    net.keep_blobs = False
    np.testing.assert_allclose(net.forward()["loss"], kept["loss"], rtol=1e-6)
    with pytest.raises(caffe.CaffeError, match=r"\(2, 16, 5, 5\) were not kept: set "
                                               r"net.keep_blobs = True .* before forward"):
        net.blobs["conv"].data  # noqa: B018
    with pytest.raises(caffe.CaffeError, match="not kept"):
        net.forward(blobs=["conv"])
    net.keep_blobs = True
    np.testing.assert_array_equal(net.forward(blobs=["conv"])["conv"], kept["conv"])


def test_a_range_that_ends_inside_a_group_makes_every_value():
    net = make()
    expected = net.forward(blobs=["conv"])["conv"]
    net.keep_blobs = False
    found = net.forward(end="scale")
    np.testing.assert_array_equal(found["conv"], expected)


@pytest.mark.parametrize("options", ["eltwise_param { operation: MAX }",
                                     "eltwise_param { coeff: 1 coeff: 2 }"])
def test_other_sums_are_kept(options):
    net = make(options)
    net.keep_blobs = False
    net.forward()
    assert net.blobs["conv"].data.shape == (2, 16, 5, 5)


def test_backward_by_parts_after_a_fused_forward():
    """A backward range that cuts the group makes of what is there all that its layers need."""
    net = make()
    net.forward()
    net.backward()
    expected = {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}
    net.keep_blobs = False
    net.clear_param_diffs()
    net.forward()
    net.backward(end="sum")
    net.backward(start="scale", end="data")
    for name, blobs in net.params.items():
        for blob, diff in zip(blobs, expected[name], strict=True):
            np.testing.assert_allclose(blob.diff, diff, rtol=1e-4, atol=1e-5)
