"""set_precision between two passes: backward follows its forward pass, which the next one need not.

That a precision computes what it should is tested with what it computes.
"""

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import catalogue_cases
from caffe import device
from caffe.kernels import choice
from caffe.proto import caffe_pb2
from catalogue_judge import CASES, make_net

NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param {
        shape { dim: 4 dim: 3 dim: 9 dim: 9 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
        num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {
        kernel_size: 2 stride: 2 } }
layer { name: "aux" type: "InnerProduct" bottom: "conv" top: "aux" inner_product_param {
        num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "aux_loss" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
        num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
CHANGES = [("fp32", "bf16"), ("bf16", "fp32"), ("fp32", "fp64")]
ONE_OF_EACH = {case.type: case for case in CASES if case.backward}.values()


@pytest.fixture(autouse=True)
def _fixed(monkeypatch):
    """The same ways to compute in all nets; fp32 afterwards."""
    monkeypatch.setattr(choice, "_measured", False)
    yield
    caffe.set_precision("fp32")


def make(phase=caffe.TRAIN):
    caffe.set_random_seed(1)
    return caffe.Net(text_format.Parse(NET, caffe_pb2.NetParameter()), phase)


def feed(net):
    net.blobs["data"].data[...] = np.random.default_rng(2).standard_normal((4, 3, 9, 9))
    net.blobs["label"].data[...] = range(4)


def gradients(net):
    found = [net.blobs["data"].diff.copy()]
    return found + [blob.diff.copy() for blobs in net.params.values() for blob in blobs]


def whole(net):
    net.backward()


def in_flows(net):
    last = len(net.layers) - 1
    net.backward_flows([[(last, 0)], [(last - 1, 0)]])


@pytest.mark.parametrize("backward", [whole, in_flows])
@pytest.mark.parametrize("before, after", CHANGES)
def test_backward_has_the_precision_of_its_forward_pass(before, after, backward):
    found = []
    for then in (before, after):
        caffe.set_precision(before)
        net = make()
        feed(net)
        net.forward()
        caffe.set_precision(then)
        backward(net)
        assert device.precision() == then
        found.append(gradients(net))
    for mine, expected in zip(*reversed(found), strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("before, after", CHANGES[:2])
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.type)
def test_so_it_has_in_every_layer(case, before, after):
    """Also where the diffs of tops are written in between."""
    found = []
    for then in (before, after):
        caffe.set_precision(before)
        caffe.set_random_seed(3)
        net = make_net(case)
        net.forward = forward_between(before, net.forward, then)
        found.append(catalogue_cases.run(net, case, 0))
    for what, expected in found[0].items():
        np.testing.assert_array_equal(found[1][what], expected)


def forward_between(before, forward, after):
    def run():
        caffe.set_precision(before)
        forward()
        caffe.set_precision(after)

    return run


@pytest.mark.parametrize("before, after", CHANGES)
def test_the_next_forward_pass_has_the_precision_that_is_set(before, after):
    """As if the net had never known another one: inputs that are fed keep all their digits, too."""
    found = []
    for first in (after, before):
        caffe.set_precision(first)
        net = make()
        feed(net)
        net.forward()
        net.backward()
        caffe.set_precision(after)
        net.clear_param_diffs()
        feed(net)
        net.forward()
        net.backward()
        found.append([net.blobs["loss"].data.copy(), *gradients(net)])
    for mine, expected in zip(*reversed(found), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-6)
