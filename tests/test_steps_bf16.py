"""The kernels for inference in bf16 round what fp64 makes of the same values, but nothing else."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from caffe.kernels import steps
from test_steps import CONVOLUTIONS, POOLINGS, SEPARABLE, amid_nan, values

BF16 = torch.bfloat16
CASES = {
    **CONVOLUTIONS,
    "more outputs than a panel, more pixels than a chunk": ((1, 96, 41, 40), 70, 3, 1, 1, 1, 1),
    "runs of three pixels": ((2, 3, 30, 31), 24, 7, 2, 3, 1, 1),
}

pytestmark = pytest.mark.unlooked


@pytest.fixture(autouse=True)
def matrices():
    if not steps.takes(BF16):
        pytest.skip("no compiler, or a processor without AMX")


def rounded(*shape, seed=0, over=1.0):
    """Values that are exact in bf16."""
    return (values(*shape, seed=seed) / over).to(BF16)


def check(found, expected, least=1e-5):
    """Half of a last place, and what sums in fp32 may add."""
    assert (found.dtype, found.shape) == (BF16, expected.shape)
    np.testing.assert_allclose(found.double(), expected, rtol=1.01 * 2**-8, atol=least)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolutions(case, rectify):
    shape, outputs, kernel, stride, pad, dilation, groups = case
    x, bias = amid_nan(rounded(*shape)), rounded(outputs, seed=2)
    weight = rounded(outputs, shape[1] // groups, kernel, kernel, seed=1, over=shape[1])
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, pad, dilation, groups)
    rules = [(rule,) * 2 for rule in (kernel, stride, pad, dilation)]
    windows = steps.Windows(shape[2:], tuple(expected.shape[2:]), *rules)
    (make,) = steps.convolutions(weight, bias, windows, groups, rectify, shape[0]).values()
    call = make()
    check(call(x), expected.relu() if rectify else expected)
    if groups == 1:
        other = rounded(*expected.shape, seed=3)
        total = expected + other.double()
        assert call(x, other, other) is other  # the sum in place
        check(other, total.relu() if rectify else total)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("case", SEPARABLE.values(), ids=SEPARABLE)
def test_separable(case):
    """The values between are bf16, as where the two run one after the other."""
    shape, outputs, kernel, *rules = case
    channels, (stride, pad, dilation) = shape[1], rules
    x, biases = amid_nan(rounded(*shape)), (rounded(channels, seed=2), rounded(outputs, seed=3))
    by_channel = rounded(channels, 1, kernel, kernel, seed=1, over=kernel)
    weight = rounded(outputs, channels, 1, 1, seed=4, over=channels)
    rows = F.conv2d(
        x.double(), by_channel.double(), biases[0].double(), stride, pad, dilation, channels
    ).relu()
    size = tuple(rows.shape[2:])
    around = steps.Windows(shape[2:], size, *[(rule,) * 2 for rule in (kernel, *rules)])
    first = steps.convolutions(by_channel, biases[0], around, channels, True, shape[0])["own"]()
    all_pixels = steps.Windows(size, size)
    then = steps.convolutions(weight, biases[1], all_pixels, 1, False, shape[0])["own tiles"]()
    check(first(x), rows)
    expected = F.conv2d(first(x).double(), weight.double(), biases[1].double())
    check(steps.separable(first, then)(x), expected)


@pytest.mark.parametrize("shape", [(3, 700), (17, 30), (2, 20, 3, 4), (5, 64, 1, 1)])
def test_products(shape):
    x = rounded(*shape)
    weight, bias = rounded(50, x[0].numel(), seed=1, over=10), rounded(50, seed=2)
    expected = F.linear(x.double().reshape(len(x), -1), weight.double(), bias.double())
    check(steps.product(weight, bias, False, shape)(x), expected)


@pytest.mark.parametrize("case", POOLINGS.values(), ids=POOLINGS)
def test_pooling(case):
    size, *rule = case
    x = amid_nan(rounded(2, 32, *size))
    largest = F.max_pool2d(x.double(), *rule, ceil_mode=True)
    average = F.avg_pool2d(x.double(), *rule, ceil_mode=True)
    windows = steps.Windows(size, tuple(largest.shape[2:]), *[(value,) * 2 for value in rule])
    check(steps.pool("largest", windows, x.shape, BF16)(x), largest)
    check(steps.pool("average", windows, x.shape, BF16)(x), average)
    check(steps.copy(x.shape, BF16)(x), x.double())


def test_what_is_not_a_number_shows():
    x = rounded(1, 32, 4, 4)
    x[0, :, 1, 1] = torch.nan
    around = steps.Windows((4, 4), (4, 4), (3, 3), (1, 1), (1, 1))
    for groups in (1, 32):
        weight = torch.ones(32, 32 // groups, 3, 3, dtype=BF16)
        (make,) = steps.convolutions(weight, None, around, groups, True, 1).values()
        y = make()(x)
        assert y[0, :, :3, :3].isnan().all()
        assert y.isnan().sum() == 32 * 9
