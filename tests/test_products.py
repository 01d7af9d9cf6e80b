"""Gradients of convolutions' weights as matrix products, against PyTorch's own."""

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import device
from caffe.catalogue import products
from caffe.proto import caffe_pb2


@pytest.mark.parametrize(
    "kernel, pad, size",
    [
        ((3, 3), (1, 1), (5, 7)),
        ((1, 3), (0, 1), (4, 6)),
        ((5, 2), (2, 0), (6, 5)),
        ((3, 3), (0, 0), (3, 3)),
        ((1, 1), (2, 1), (2, 3)),
        ((2, 2), (1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_weight_gradient(kernel, pad, size, last):
    random = np.random.RandomState(0)
    weight = torch.tensor(random.randn(6, 4, *kernel), requires_grad=True)
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.tensor(random.randn(3, 4, *size)).contiguous(memory_format=layout)
    y = torch.nn.functional.conv2d(x, weight, padding=pad)
    dy = torch.tensor(random.randn(*y.shape)).contiguous(memory_format=layout)
    (expected,) = torch.autograd.grad(y, weight, dy)
    found = products.weight_gradient(dy, x, kernel, pad)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


LAYER = """
force_backward: true
layer {{ name: "data" type: "Input" top: "data"
        input_param {{ shape {{ dim: 2 dim: 4 dim: 9 dim: 8 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" {param}
        convolution_param {{ num_output: 6 {options} }} }}
layer {{ name: "loss" type: "Reduction" bottom: "conv" top: "loss" loss_weight: 1
        reduction_param {{ operation: SUMSQ }} }}
"""


@pytest.mark.parametrize("param", ["", "propagate_down: false"])
@pytest.mark.parametrize(
    "options, taken",
    [
        ("kernel_size: 3 pad: 1", True),
        ("kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1", True),
        ("kernel_size: 5 bias_term: false", True),
        ("kernel_size: 3 stride: 2", False),
        ("kernel_size: 3 dilation: 2", False),
        ("kernel_size: 3 group: 2", False),
    ],
)
def test_layers_that_take_it(monkeypatch, double, options, taken, param):
    calls, run_product = [], products.weight_gradient
    monkeypatch.setattr(
        products, "weight_gradient", lambda *arguments: calls.append(1) or run_product(*arguments)
    )

    def run(as_product):
        monkeypatch.setattr(device, "multiplies_weights_faster", lambda *_: as_product)
        net = caffe.Net(
            text_format.Parse(LAYER.format(options=options, param=param), caffe_pb2.NetParameter()),
            caffe.TRAIN,
        )
        random = np.random.RandomState(0)
        for blob in (net.blobs["data"], *net.params["conv"]):
            blob.data[...] = random.randn(*blob.shape)
        net.forward()
        net.backward()
        return [net.blobs["data"].diff.copy(), *[b.diff.copy() for b in net.params["conv"]]]

    expected = run(False)
    assert not calls
    for found, wanted in zip(run(True), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    assert bool(calls) == taken
