"""Cases that could mislead a layer's backward: frozen weights, a later layer in place."""

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

RANDOM = np.random.RandomState(4)


def make_net(text, force_backward=True):
    data = (
        'layer { name: "data" type: "Input" top: "x" input_param '
        "{ shape { dim: 2 dim: 4 dim: 5 dim: 5 } } } "
    )
    param = text_format.Parse(data + text, caffe_pb2.NetParameter())
    param.force_backward = force_backward
    net = caffe.Net(param, caffe.TRAIN)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = RANDOM.normal(0, 1, blob.shape)
    net.blobs["x"].data[...] = RANDOM.normal(0, 1, (2, 4, 5, 5))
    return net


@pytest.mark.parametrize("type", ["Convolution", "Deconvolution", "InnerProduct"])
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_parameter_has_no_gradient(type, frozen):
    """Clipping takes the norm of all parameters' diffs, as in Caffe."""
    param = "inner_product_param" if type == "InnerProduct" else "convolution_param"
    window = "" if type == "InnerProduct" else "kernel_size: 3"
    rates = " ".join(f"param {{ lr_mult: {int(index != frozen)} }}" for index in range(2))
    text = (
        f'layer {{ name: "y" type: "{type}" bottom: "x" top: "y" {rates} {param} '
        f"{{ num_output: 3 {window} }} loss_weight: 1 }}"
    )
    net = make_net(text, force_backward=False)
    net.forward()
    net.backward()
    blobs = net.params["y"]
    assert not blobs[frozen].diff.any()
    assert blobs[1 - frozen].diff.all()


CHANGES = {
    "Scale": "",
    "PReLU": "",
    "BatchNorm": "",
    "Bias": "",
    "Power": "power_param { scale: -2 shift: 1 }",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "layer", ['type: "ReLU"', 'type: "ReLU" relu_param { negative_slope: 0.2 }']
)
def test_a_rectifier_does_not_mind_what_happens_to_its_top(layer, change):
    """A later in-place layer gives what it gives with its own top; signs change on the way."""
    text = (
        f'layer {{ name: "a" {layer} bottom: "x" top: "a" }} layer {{ name: "b" '
        f'type: "{change}" bottom: "a" top: "TOP" {CHANGES[change]} }} '
        'layer { name: "loss" type: "Reduction" bottom: "TOP" top: "loss" loss_weight: 1 '
        "reduction_param { operation: SUMSQ } }"
    )
    apart, together = (make_net(text.replace("TOP", top)) for top in ("b", "a"))
    for mine, other in zip(together.params.values(), apart.params.values(), strict=True):
        for blob, source in zip(mine, other, strict=True):
            blob.data[...] = source.data
    together.blobs["x"].data[...] = apart.blobs["x"].data
    for net in (apart, together):
        net.forward()
        net.backward()
    assert apart.blobs["x"].diff.any()
    np.testing.assert_allclose(together.blobs["x"].diff, apart.blobs["x"].diff, rtol=1e-5)


@pytest.mark.parametrize("entries, goes_on", [(0, True), (1, True), (3, False)])
def test_backward_reaches_a_batch_norm_by_what_the_prototxt_says(entries, goes_on):
    """As in BVLC Caffe, whose net reads the entries of the file, not those that the layer adds."""
    params = "param { lr_mult: 0 } " * entries
    text = (
        f'layer {{ name: "bn" type: "BatchNorm" bottom: "x" top: "b" {params}}} '
        'layer { name: "y" type: "InnerProduct" bottom: "b" top: "y" loss_weight: 1 '
        "inner_product_param { num_output: 3 } }"
    )
    net = make_net(text, force_backward=False)
    source = str(net.nodes[1].layer.layer_param)
    net.forward()
    net.backward()
    assert bool(np.any(net.blobs["x"].diff)) == goes_on
    assert bool(np.any(net.blobs["b"].diff)) == goes_on
    assert [p.lr_mult for p in net.learnable] == [0, 0, 0, 1, 1]
    assert source.count("lr_mult") == entries  # the layer leaves its own prototxt alone
