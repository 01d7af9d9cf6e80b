"""The engine's own kernels for inference give what their definitions give, computed in fp64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from caffe.kernels import steps

CONVOLUTIONS = {  # (N, C, H, W), outputs, kernel, stride, pad, dilation, groups
    "1 x 1": ((2, 20, 5, 7), 40, 1, 1, 0, 1, 1),
    "1 x 1, more channels than a block": ((3, 530, 4, 5), 33, 1, 1, 0, 1, 1),
    "1 x 1, strided": ((2, 272, 9, 8), 16, 1, 2, 0, 1, 1),
    "1 x 1, several chunks": ((2, 3, 23, 24), 70, 1, 1, 0, 1, 1),
    "3 x 3": ((2, 17, 9, 8), 33, 3, 1, 1, 1, 1),
    "3 x 3, two rows at a time": ((3, 64, 7, 7), 32, 3, 1, 1, 1, 1),
    "3 x 3, odd tops": ((2, 32, 9, 5), 40, 3, 1, 1, 1, 1),
    "3 x 3, strided and dilated": ((2, 5, 16, 15), 35, 3, 2, 2, 2, 1),
    "5 x 5 without pad": ((1, 6, 11, 30), 8, 5, 1, 0, 1, 1),
    "by channel": ((2, 32, 9, 11), 32, 3, 1, 1, 1, 32),
    "by channel, strided and dilated": ((2, 16, 13, 9), 16, 3, 2, 2, 2, 16),
    "by channel, mostly pad": ((1, 16, 2, 3), 16, 5, 1, 2, 1, 16),
}
SEPARABLE = {  # (N, C, H, W), outputs, kernel, stride, pad, dilation
    "one tile": ((1, 16, 2, 3), 7, 5, 1, 2, 1),
    "rows end within tiles": ((3, 32, 9, 11), 40, 3, 1, 1, 1),
    "more channels than a block": ((1, 528, 14, 14), 33, 3, 1, 1, 1),
    "strided, a chunk for each thread": ((2, 16, 30, 29), 64, 3, 2, 1, 1),
    "strided and dilated": ((2, 48, 15, 16), 20, 3, 2, 2, 2),
    "several chunks": ((2, 16, 27, 26), 35, 3, 1, 0, 1),
}
POOLINGS = {  # (H, W), kernel, stride, pad
    "overlapping": ((9, 12), 3, 2, 0),
    "beyond the image": ((8, 11), 3, 2, 0),
    "padded": ((7, 9), 3, 1, 1),
    "global": ((7, 7), 7, 1, 0),
}

pytestmark = pytest.mark.unlooked


@pytest.fixture(autouse=True)
def compiled():
    if not steps.fits(torch.ones(1)):
        pytest.skip("no compiler")


def values(*shape, seed=0):
    x = torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def amid_nan(x):
    """x in memory with NaN before and behind."""
    memory, count = torch.full((3 * x.numel(),), torch.nan, dtype=x.dtype), x.numel()
    return memory[count : 2 * count].as_strided(x.shape, x.stride(), count).copy_(x)


def check(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(case, rectify):
    shape, outputs, kernel, stride, pad, dilation, groups = case
    x, bias = values(*shape), values(outputs, seed=2)
    weight = values(outputs, shape[1] // groups, kernel, kernel, seed=1) / shape[1]
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, pad, dilation, groups)
    rules = [(rule,) * 2 for rule in (kernel, stride, pad, dilation)]
    windows = steps.Windows(shape[2:], tuple(expected.shape[2:]), *rules)
    makers = steps.convolutions(weight, bias, windows, groups, rectify, shape[0])
    by_tiles = (kernel, stride, dilation, groups, shape[1] % 16) == (3, 1, 1, 1, 0)
    others = ["own product"] * (kernel == 1) + ["own Winograd"] * by_tiles
    others += ["own tiles"] * (groups == 1 and steps.takes(torch.bfloat16))
    assert list(makers) == ["own", *others]
    for make in makers.values():
        call = make()
        check(call(x), expected.relu() if rectify else expected)
        if groups == 1:
            other = values(*expected.shape, seed=3)
            total = expected + other
            check(call(x, other), total.relu() if rectify else total)
            assert call(x, other, other) is other  # the sum in place
            check(other, total.relu() if rectify else total)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", SEPARABLE.values(), ids=SEPARABLE)
def test_separable(case, threads):
    """A convolution by channel and a product of what it makes, one after the other and as one."""
    shape, outputs, kernel, *rules = case
    channels, (stride, pad, dilation) = shape[1], rules
    x, biases = amid_nan(values(*shape)), (values(channels, seed=2), values(outputs, seed=3))
    by_channel = values(channels, 1, kernel, kernel, seed=1) / kernel
    weight = values(outputs, channels, 1, 1, seed=4) / channels
    rows = F.conv2d(
        x.double(), by_channel.double(), biases[0].double(), stride, pad, dilation, channels
    ).relu()
    expected = F.conv2d(rows, weight.double(), biases[1].double())
    size = tuple(rows.shape[2:])
    around = steps.Windows(shape[2:], size, *[(rule,) * 2 for rule in (kernel, *rules)])
    makers = steps.convolutions(by_channel, biases[0], around, channels, True, shape[0])
    all_pixels = steps.Windows(size, size)
    following = steps.convolutions(weight, biases[1], all_pixels, 1, False, shape[0])
    other, before = values(*expected.shape, seed=5), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(makers["own"]()(x), rows)
        for name in following.keys() - {"own"}:
            both = steps.separable(makers["own"](), following[name]())
            check(both(x), expected)
            check(both(x, other), expected + other)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scale", [1e-12, 1, 1e12])
def test_three_parts_of_a_float_are_as_exact_as_it(scale):
    """On AMX, against fp64: no worse than fp32's own products, whatever is summed."""
    if not steps.takes(torch.bfloat16):
        pytest.skip("no compiler, or a processor without AMX")
    x = scale * (values(4, 512, 7, 7) + 3)  # all of a sign, so that what is cut off adds up
    weight, windows = values(64, 512, 1, 1, seed=1) + 3, steps.Windows((7, 7), (7, 7))
    makers = steps.convolutions(weight, None, windows, 1, False, 4)
    exact = F.conv2d(x.double(), weight.double())
    errors = {
        name: ((makers[name]()(x) - exact) / exact).abs().max().item()
        for name in ("own product", "own tiles")
    }
    assert errors["own tiles"] <= max(errors["own product"], 3e-7)


@pytest.mark.parametrize("shape", [(3, 700), (17, 30), (2, 20, 3, 4), (5, 64, 1, 1)])
def test_products(shape):
    x = values(*shape)
    weight, bias = values(50, x[0].numel(), seed=1), values(50, seed=2)
    expected = F.linear(x.double().reshape(len(x), -1), weight.double(), bias.double())
    check(steps.product(weight / 10, bias / 10, False, shape)(x), expected / 10)


@pytest.mark.parametrize("case", POOLINGS.values(), ids=POOLINGS)
def test_pooling(case):
    size, kernel, stride, pad = case
    x = values(2, 32, *size)
    rule = kernel, stride, pad
    largest = F.max_pool2d(x.double(), *rule, ceil_mode=True)
    average = F.avg_pool2d(x.double(), *rule, ceil_mode=True)
    windows = steps.Windows(size, tuple(largest.shape[2:]), *[(value,) * 2 for value in rule])
    check(steps.pool("largest", windows, x.shape)(x), largest)
    check(steps.pool("average", windows, x.shape)(x), average)


@pytest.mark.parametrize("shape", [(3, 1000), (2, 5), (1, 1), (4, 16), (2, 21, 3, 4)])
@pytest.mark.parametrize("scale", [1, 40])
def test_softmax(shape, scale):
    x = scale * values(*shape)
    found, expected = steps.softmax(shape)(x), torch.softmax(x.double(), 1)
    assert found.shape == expected.shape
    rounding = 2**-23 * (x.max() - x.min())  # of a difference of two logits, so of its exponential
    assert (found / expected - 1)[expected > 1e-37].abs().max() < 1e-6 + rounding
    assert (found[expected <= 1e-37] < 1.01e-37).all()


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, torch.finfo().min])
def test_softmax_of_what_is_not_finite(odd):
    x = values(3, 35)
    x[0, 33], x[1] = odd, odd
    torch.testing.assert_close(
        steps.softmax(x.shape)(x), torch.softmax(x, 1), rtol=1e-6, atol=1e-7, equal_nan=True
    )


def test_what_is_not_a_number():
    """It does not count for the largest, as in Caffe, and shows in all that is computed with it."""
    x = values(1, 16, 4, 4)
    x[0, :, 1, 1] = torch.nan
    windows = steps.Windows((4, 4), (2, 2), (2, 2), (2, 2))
    largest = steps.pool("largest", windows, x.shape)(x)
    check(largest, F.max_pool2d(x.nan_to_num(-100), 2))
    assert steps.pool("average", windows, x.shape)(x)[0, :, 0, 0].isnan().all()
    assert steps.copy(x.shape)(x)[0, :, 1, 1].isnan().all()
    around = steps.Windows((4, 4), (4, 4), (3, 3), (1, 1), (1, 1))
    makers = steps.convolutions(torch.ones(16, 16, 3, 3), None, around, 1, True, 1)
    for make in makers.values():
        assert make()(x)[0, :, :3, :3].isnan().all()
    assert makers["own"]()(x).isnan().sum() == 16 * 9  # Winograd's tiles spread it by a pixel
    by_channel = steps.convolutions(torch.ones(16, 1, 3, 3), None, around, 16, True, 1)["own"]()
    product = steps.convolutions(
        torch.ones(16, 16, 1, 1), None, steps.Windows((4, 4), (4, 4)), 1, True, 1
    )["own product"]()
    assert steps.separable(by_channel, product)(x).isnan().sum() == 16 * 9
    for groups in (1, 16):
        weight = torch.ones(16, 16 // groups, 1, 1)
        all_pixels = steps.Windows((4, 4), (4, 4))
        for make in steps.convolutions(weight, None, all_pixels, groups, True, 1).values():
            y = make()(x)
            assert y[0, :, 1, 1].isnan().all()
            assert y.isnan().sum() == 16
