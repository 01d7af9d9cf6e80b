"""Convolutions with packed weights, each way against PyTorch's in double precision."""

import numpy as np
import pytest
import torch

from caffe.kernels import choice, native, packed
from caffe.kernels.geometry import Geometry

TOLERANCE = 3e-6  # of the largest value
# N, C, H, W, K, kernel, stride, pad, dilation: panels whole and broken, tiles of one row and two,
# chunks of several images and of a part of one, rows of one pixel, tops of odd and even sizes
CASES = [
    (1, 3, 9, 9, 5, 1, 1, 0, 1),
    (2, 40, 13, 11, 64, 1, 1, 0, 1),
    (3, 16, 7, 7, 33, 3, 1, 1, 1),
    (2, 3, 33, 29, 20, 7, 2, 3, 1),
    (1, 32, 14, 14, 48, 1, 2, 0, 1),
    (2, 5, 17, 6, 32, 3, 2, 1, 1),
    (1, 8, 12, 16, 70, 3, 1, 2, 2),
    (1, 64, 40, 40, 32, 3, 1, 1, 1),
    (2, 64, 56, 50, 40, 3, 1, 1, 1),
    (2, 600, 7, 7, 256, 1, 1, 0, 1),
    (1, 200, 8, 8, 96, 3, 1, 1, 1),
    (4, 6, 1, 1, 16, 1, 1, 0, 1),
    (1, 4, 5, 5, 3, 5, 1, 0, 1),
    (1, 4, 6, 5, 32, (1, 3), 1, (0, 1), 1),
    (2, 16, 13, 10, 40, 3, 1, 1, 1),
    (1, 48, 9, 6, 64, 3, 1, 0, 1),
    (3, 16, 4, 7, 32, 3, 1, 2, 1),
    (1, 32, 3, 3, 8, 3, 1, 0, 1),
]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def last(*shape, seed):
    values = torch.from_numpy(np.random.RandomState(seed).randn(*shape)).float()
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("way", ["oneDNN", "product", "own"])
@pytest.mark.parametrize("shape", [(1, 700), (17, 30), (2, 20, 3, 4), (5, 64, 1, 1)])
@pytest.mark.parametrize("outputs", [5, 64])
def test_every_way_of_an_inner_product(monkeypatch, outputs, shape, way, activation):
    x = torch.from_numpy(np.random.RandomState(0).randn(*shape)).float()
    weight = torch.from_numpy(np.random.RandomState(1).randn(outputs, x[0].numel())).float()
    bias = torch.linspace(-1, 1, outputs)
    expected = x.double().flatten(1) @ weight.double().T + bias.double()
    expected = expected.relu() if activation == "relu" else expected
    if way == "own" and native.library() is None:
        pytest.skip("no compiled kernels")
    monkeypatch.setattr(choice, "fastest", lambda operation, details, ways, measure: way)
    last_channels = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    run = packed.inner_product(weight, bias, packed.Activation(activation), last_channels)
    found = run(last_channels, None)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("way", ["oneDNN", "inner product", "own", "own product", "own Winograd"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_way(monkeypatch, case, way, adds, activation):
    count, channels, height, width, outputs, *rule = case
    kernel, stride, pad, dilation = map(pair, rule)
    x, weight = (
        last(count, channels, height, width, seed=0),
        last(outputs, channels, *kernel, seed=1),
    )
    bias = torch.linspace(-1, 1, outputs)
    expected = torch.conv2d(x.double(), weight.double(), bias.double(), stride, pad, dilation)
    other = last(*expected.shape, seed=2) if adds else None
    expected = expected if other is None else expected + other
    expected = expected.relu() if activation == "relu" else expected
    offered = []

    def fastest(operation, details, ways, measure):
        offered.extend(ways)
        return way if way in ways else "oneDNN"

    monkeypatch.setattr(choice, "fastest", fastest)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3 if adds else 1)
    geometry = Geometry(stride, pad, dilation, False, (0, 0), 1)
    run = packed.convolution(weight, bias, geometry, packed.Activation(activation), x, other)
    if way not in offered:
        multiplies = (kernel, pad) == ((1, 1), (0, 0))
        by_onednn = multiplies and stride == (1, 1) and not adds
        could = {
            "inner product": by_onednn,
            "own": True,
            "own product": multiplies,
            "own Winograd": (kernel, stride, dilation, channels % 16)
            == ((3, 3), (1, 1), (1, 1), 0),
        }[way]
        assert not could or native.library() is None
        return
    found = run(x, other)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
