"""The CPU's own 3 x 3 convolutions, against PyTorch's in double precision."""

import numpy as np
import pytest
import torch

from caffe.kernels import cpu, native

pytestmark = pytest.mark.skipif(native.library() is None, reason=native.LIBRARY.state())

GEOMETRY = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
TOLERANCE = 3e-6  # of the largest value
# N, C, H, W, K: whole and broken pieces of a row, images higher than a piece that the cache holds,
# fewer rows than threads, rows and columns of one pixel
SHAPES = [
    (4, 16, 32, 32, 16),
    (3, 16, 5, 31, 32),
    (2, 32, 9, 7, 16),
    (2, 64, 8, 8, 64),
    (1, 64, 3, 40, 16),
    (1, 32, 40, 33, 64),
    (5, 16, 1, 3, 16),
    (2, 16, 4, 1, 32),
    (1, 16, 1, 1, 16),
    (1, 64, 2, 100, 64),
]


def last(*shape, seed):
    values = np.random.RandomState(seed).randn(*shape)
    return torch.tensor(values, dtype=torch.float32).contiguous(memory_format=torch.channels_last)


def assert_close(found, expected):
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.double() - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n, c, h, w, k", SHAPES)
def test_convolution_and_its_gradients(n, c, h, w, k):
    x, weight, dy = (last(n, c, h, w, seed=0), last(k, c, 3, 3, seed=1), last(n, k, h, w, seed=2))
    assert_close(
        cpu.convolve_3x3(x, weight), torch.convolution(x.double(), weight.double(), None, *GEOMETRY)
    )
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy.double(), x.double(), weight.double(), None, *GEOMETRY, (True, True, False)
    )
    assert_close(cpu.convolve_3x3_data_gradient(dy, x, weight), dx)
    assert_close(cpu.convolve_3x3_weight_gradient(dy, x, weight), dweight)


def test_tensors_that_lie_otherwise():
    x, weight, dy = last(2, 16, 6, 6, seed=0), last(16, 16, 3, 3, seed=1), last(2, 40, 6, 6, seed=2)
    dense = dy[:, 3:19].contiguous(memory_format=torch.channels_last)
    for run in (cpu.convolve_3x3_data_gradient, cpu.convolve_3x3_weight_gradient):
        expected = run(dense, x, weight)
        assert torch.equal(run(dy[:, 3:19], x, weight), expected)
        assert torch.equal(run(dense, x.contiguous(), weight.contiguous()), expected)


def test_what_they_do_not_take():
    x, weight = last(4, 16, 8, 8, seed=0), last(32, 16, 3, 3, seed=1)
    assert cpu.convolves(x, weight)
    assert not cpu.convolves(x.double(), weight)
    assert not cpu.convolves(x.bfloat16(), weight.bfloat16())
    assert not cpu.convolves(last(0, 16, 8, 8, seed=0), weight)
    assert not cpu.convolves(last(4, 48, 8, 8, seed=0), last(16, 48, 3, 3, seed=1))
    assert not cpu.convolves(x, last(16, 16, 5, 5, seed=1))
