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
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "conv" top: "sum" OPTIONS }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "loss" type: "Reduction" bottom: "sum" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def make(options="", text=BLOCK):
    caffe.set_random_seed(0)
    text = text.replace("OPTIONS }", options + " }")
    param = text_format.Parse(text, caffe_pb2.NetParameter())
    net = caffe.Net(param, caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.RandomState(1).randn(2, 16, 5, 5)
    return net


@pytest.mark.unlooked
def test_what_is_not_kept_cannot_be_read():
    net = make()
    kept = net.forward(blobs=["conv"])
    net.keep_blobs = False
    np.testing.assert_allclose(net.forward()["loss"], kept["loss"], rtol=1e-6)
    with pytest.raises(
        caffe.CaffeError,
        match=r"\(2, 16, 5, 5\) were not kept: set "
        r"net.keep_blobs = True .* before forward",
    ):
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


@pytest.mark.parametrize(
    "options", ["eltwise_param { operation: MAX }", "eltwise_param { coeff: 1 coeff: 2 }"]
)
def test_other_sums_are_kept(options):
    net = make(options)
    net.keep_blobs = False
    net.forward()
    assert net.blobs["conv"].data.shape == (2, 16, 5, 5)


HEADS = """
layer { name: "other_loss" type: "Reduction" bottom: "READ" top: "other_loss" loss_weight: 0.5
        reduction_param { operation: ASUM } }
layer { name: "third" type: "Power" bottom: "READ" top: "third" power_param { power: 2 } }
layer { name: "third_loss" type: "Reduction" bottom: "third" top: "third_loss" loss_weight: 2 }
"""
SHORTCUT = """
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "conv" top: "sum" OPTIONS }"""


def gradients(net, *ranges):
    net.clear_param_diffs()
    net.forward()
    for end in ranges:
        net.backward(**end)
    return [blob.diff.copy() for blobs in net.params.values() for blob in blobs]


@pytest.mark.parametrize("cut", [None, "split", "relu", "scale"])
@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("adds", [True, False])
def test_gradients_of_a_group_whole_and_cut(adds, readers, cut):
    """A backward range that cuts the group restores all that its layers need from what is kept."""
    text = BLOCK if adds else BLOCK.replace(SHORTCUT, "").replace('"sum"', '"conv"')
    read = "sum" if adds else "conv"
    net = make(text=text + HEADS.replace("READ", read) * (readers > 1))
    expected = gradients(net, {})
    kept = net.blobs[read].data.copy()
    names = list(net._layer_names)
    ranges = [{}]
    if cut is not None:
        at = names.index("relu") + 1 if cut == "split" else names.index(cut)
        ranges = [{"end": names[at]}, {"start": names[at - 1], "end": "data"}]
    net.keep_blobs = False
    for found, diff in zip(gradients(net, *ranges), expected, strict=True):
        np.testing.assert_allclose(found, diff, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(net.blobs[read].data, kept, rtol=1e-6, atol=1e-6)
