"""Nets whose blobs change shape from one forward to the next."""

import numpy as np
import pytest
import torch

import caffe

INPUT = """force_backward: true
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }"""
SQUARES = """
    layer { name: "loss" type: "Reduction" bottom: "%s" top: "loss" loss_weight: 3
            reduction_param { operation: SUMSQ axis: %d } }"""


def make_net(folder, text):
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


@pytest.mark.parametrize("axis", [0, 1])
def test_loss_weights_follow_the_batch(tmp_path, axis):
    net = make_net(tmp_path, INPUT + SQUARES % ("x", axis))
    for batch in (4, 2, 6, 6):
        values = np.random.RandomState(batch).normal(size=(batch, 3)).astype(np.float32)
        net.blobs["x"].reshape(batch, 3)
        net.blobs["x"].data[...] = values
        assert net._forward(0, 1) == pytest.approx(3 * (values**2).sum(), rel=1e-6)
        net._backward(1, 0)
        np.testing.assert_allclose(net.blobs["x"].diff, 6 * values, rtol=1e-6)


def test_a_filter_that_lets_through_more_and_less(tmp_path):
    net = make_net(
        tmp_path,
        INPUT
        + """
        layer { name: "picks" type: "Input" top: "pick" input_param { shape { dim: 4 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "f"
                inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
        layer { name: "filter" type: "Filter" bottom: "f" bottom: "pick" top: "kept"
                propagate_down: true propagate_down: false }""".replace("force_backward: true", "")
        + SQUARES % ("kept", 0),
    )
    random = np.random.RandomState(0)
    weight = torch.tensor(net.params["fc"][0].data.copy(), requires_grad=True)
    for picked in ([1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]):
        values = random.normal(size=(4, 3)).astype(np.float32)
        net.blobs["x"].data[...], net.blobs["pick"].data[...] = values, picked
        net.clear_param_diffs()
        net.forward()
        assert net.blobs["kept"].shape == (sum(picked), 2)
        net.backward()
        weight.grad = None
        kept = (torch.from_numpy(values) @ weight.T)[torch.tensor(picked) > 0]
        (3 * kept.square().sum()).backward()
        np.testing.assert_allclose(net.params["fc"][0].diff, weight.grad, rtol=1e-5, atol=1e-6)
