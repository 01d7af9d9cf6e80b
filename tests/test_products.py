"""The ways of convolutions, inner products and their gradients, against autograd in fp64."""

import numpy as np
import pytest
import torch

import caffe
import ways
from caffe.kernels import choice, convolution, linear, native, products
from caffe.kernels.geometry import Geometry

TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float64: 1e-13}  # of the largest


def random(*shape, seed, dtype=torch.float32):
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape)).to(dtype)


def last(x):
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert float((found.double() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def names(operation, *arguments):
    """The ways of an operation that take these arguments."""
    return [name for name, (_, takes) in operation._ways.items() if takes(*arguments)]


def run(operation, name, *arguments):
    with ways.taken(ways.preferred(name)), choice.noting() as noted:
        made = operation(*arguments)
    assert all(way == name for _, way in noted)
    return made


PROD, WIN, OWN, INNER, WINO = "product", "windows", "own", "inner product", "Winograd"
BLOCKS = "blocks"
COMPILED = {OWN, WINO}
# x, weight, stride, pad, dilation, groups; the ways beside PyTorch's: forward, to data, to weights
CONVOLUTIONS = [
    ((2, 4, 9, 8), (6, 4, 3, 3), 1, 1, 1, 1, ((), (), (WIN,))),
    ((2, 4, 4, 6), (6, 4, 1, 3), 1, (0, 1), 1, 1, ((), (), (WIN,))),
    ((2, 4, 9, 8), (6, 4, 5, 5), 1, 0, 1, 1, ((), (), (WIN,))),
    ((2, 16, 9, 8), (32, 16, 3, 3), 1, 1, 1, 1, ((OWN, WINO), (OWN, WINO), (WIN, OWN))),
    ((2, 48, 7, 6), (80, 48, 3, 3), 1, (2, 1), 1, 1, ((WINO,), (WINO,), (WIN,))),
    ((2, 16, 9, 8), (40, 16, 3, 3), 1, 1, 1, 1, ((), (), (WIN,))),
    ((2, 16, 9, 8), (32, 16, 3, 3), 2, 1, 1, 1, ((), (), ())),
    ((2, 3, 23, 20), (6, 3, 7, 7), 2, 3, 1, 1, ((BLOCKS,), (), (BLOCKS,))),
    ((2, 3, 31, 30), (8, 3, 11, 11), 4, 0, 1, 1, ((BLOCKS,), (), (BLOCKS,))),
    ((2, 1, 9, 12), (4, 1, 3, 5), 3, (2, 1), 1, 1, ((BLOCKS,), (), (BLOCKS,))),
    ((2, 3, 8, 9), (4, 3, 7, 7), 2, 3, 2, 1, ((), (), ())),
    ((2, 16, 9, 8), (32, 16, 3, 3), 1, 2, 2, 1, ((), (), ())),
    ((2, 16, 9, 8), (32, 8, 3, 3), 1, 1, 1, 2, ((), (), ())),
    ((2, 16, 9, 8), (32, 16, 3, 3), 1, 0, 1, 1, ((WINO,), (WINO,), (WIN,))),
    ((2, 5, 9, 8), (6, 5, 1, 1), 1, 0, 1, 1, ((PROD, INNER), (PROD,), (PROD,))),
    ((2, 5, 9, 8), (6, 5, 1, 1), 2, 0, 1, 1, ((PROD, INNER), (PROD,), (PROD,))),
    ((2, 5, 9, 8), (6, 5, 1, 1), (1, 3), 0, 1, 1, ((PROD, INNER), (PROD,), (PROD,))),
    ((2, 4, 9, 8), (6, 2, 1, 1), 2, 0, 1, 2, ((), (), ())),
    ((2, 5, 9, 8), (6, 5, 1, 1), 1, 1, 1, 1, ((), (), ())),
    ((2, 5, 9), (6, 5, 1), 2, 0, 1, 1, ((PROD, INNER), (PROD,), (PROD,))),
    ((2, 5, 3, 4, 5), (6, 5, 1, 1, 1), 1, 0, 1, 1, ((PROD, INNER), (PROD,), (PROD,))),
    ((2, 5, 3, 4, 5), (6, 5, 3, 3, 3), 1, 1, 1, 1, ((), (), ())),
]


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case, has_bias):
    shape, kernel, *numbers, groups, others = case
    axes = len(shape) - 2
    stride, pad, dilation = (n if isinstance(n, tuple) else (n,) * axes for n in numbers)
    geometry = Geometry(stride, pad, dilation, False, (0,) * axes, groups)
    x, weight = last(random(*shape, seed=0)), last(random(*kernel, seed=1))
    bias = random(kernel[0], seed=2) if has_bias else None
    truth = [t.double().requires_grad_() for t in (x, weight, *([bias] if has_bias else []))]
    y = torch.convolution(*truth[:2], truth[2] if has_bias else None, *geometry)
    dy = last(random(*y.shape, seed=3))
    dx, dweight, *dbias = torch.autograd.grad(y, truth, dy.double())

    def check(operation, arguments, others, expected):
        if has_bias and operation is not convolution.data_gradient:
            others = [way for way in others if way != OWN]
        if native.library() is None:
            others = [way for way in others if way not in COMPILED]
        assert names(operation, *arguments) == ["convolution", *others]
        for name in ["convolution", *others]:
            made = run(operation, name, *arguments)
            made = made if isinstance(made, tuple) else (made,)
            for found, wanted in zip(made, expected, strict=False):
                assert_close(found, wanted, TOLERANCE[torch.float32])

    check(convolution.forward, (x, weight, bias, geometry), others[0], [y.detach()])
    check(convolution.data_gradient, (dy, x, weight, geometry), others[1], [dx])
    check(
        convolution.weight_gradient,
        (dy, x, weight, has_bias, geometry),
        others[2],
        [dweight, *dbias],
    )
    if has_bias:
        assert_close(convolution.bias_gradient(dy), *dbias, TOLERANCE[torch.float32])


def test_transposed_convolutions_have_one_way():
    x, weight = random(2, 5, 4, 4, seed=0), random(5, 6, 1, 1, seed=1)
    geometry = Geometry((2, 2), (0, 0), (1, 1), True, (0, 0), 1)
    dy = random(2, 6, 7, 7, seed=2)
    assert names(convolution.forward, x, weight, None, geometry) == ["convolution"]
    assert names(convolution.data_gradient, dy, x, weight, geometry) == ["convolution"]
    assert names(convolution.weight_gradient, dy, x, weight, True, geometry) == ["convolution"]


def test_blocks_of_a_kernel_as_wide_as_its_stride_in_double_precision():
    x, weight = (random(*shape, seed=0).double() for shape in ((2, 1, 12, 8), (5, 1, 7, 3)))
    geometry = Geometry((3, 3), (0, 2), (1, 1), False, (0, 0), 1)
    y = run(convolution.forward, BLOCKS, x, weight, None, geometry)
    dy = random(*y.shape, seed=1).double()
    found, expected = (
        run(convolution.weight_gradient, way, dy, x, weight, False, geometry)[0]
        for way in (BLOCKS, "convolution")
    )
    assert_close(found, expected, TOLERANCE[torch.float64])


def test_kernels_for_fp32_take_no_diffs_of_another_precision():
    """As after a change of precision between forward and backward; they would read past its end."""
    x, weight = last(random(2, 16, 4, 4, seed=0)), random(16, 16, 3, 3, seed=1)
    geometry = Geometry((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
    dy = last(random(2, 16, 4, 4, seed=2, dtype=torch.bfloat16))
    assert names(convolution.data_gradient, dy, x, weight, geometry) == ["convolution"]
    assert names(convolution.weight_gradient, dy, x, weight, False, geometry) == [
        "convolution",
        WIN,
    ]


def test_large_images_are_not_copied_for_each_place_of_the_kernel():
    def offered(count):
        x, weight = torch.empty(count, 64, 16, 16, device="meta"), torch.empty(64, 64, 3, 3)
        geometry = Geometry((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
        return names(convolution.weight_gradient, x, x, weight, False, geometry)

    assert WIN in offered(100)
    assert WIN not in offered(200)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
def test_inner_products(dtype, has_bias):
    x, weight = random(7, 30, seed=0, dtype=dtype), random(9, 30, seed=1, dtype=dtype)
    bias = random(9, seed=2, dtype=dtype) if has_bias else None
    expected = torch.nn.functional.linear(
        x.double(), weight.double(), bias.double() if has_bias else None
    )
    dy = random(7, 9, seed=3, dtype=dtype)
    offered = names(linear.forward, x, weight, bias)
    assert offered == ["product", *["oneDNN"] * (dtype == torch.float32)]
    for name in offered:
        assert_close(run(linear.forward, name, x, weight, bias), expected, TOLERANCE[dtype])
        transposed = weight.T.contiguous().T
        assert_close(run(linear.forward, name, x, transposed, bias), expected, TOLERANCE[dtype])
    offered = names(linear.weight_gradient, dy, x)
    assert offered == ["product", *["product in fp32"] * (dtype == torch.bfloat16)]
    for name in offered:
        found = run(linear.weight_gradient, name, dy, x)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert_close(found, dy.double().T @ x.double(), TOLERANCE[dtype])


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
@pytest.mark.parametrize("lies_last", [True, False])
def test_kernel_gradient(kernel, pad, size, lies_last):
    weight = random(6, 4, *kernel, seed=0, dtype=torch.float64).requires_grad_()
    x = random(3, 4, *size, seed=1, dtype=torch.float64)
    x = last(x) if lies_last else x
    y = torch.nn.functional.conv2d(x, weight, padding=pad)
    dy = random(*y.shape, seed=2, dtype=torch.float64)
    dy = last(dy) if lies_last else dy
    (expected,) = torch.autograd.grad(y, weight, dy)
    found = products.kernel_gradient(dy, x, kernel, pad)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


NET = """
layer {{ name: "data" type: "Input" top: "data"
        input_param {{ shape {{ dim: 2 dim: 16 dim: 9 dim: 9 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" propagate_down: {below}
        convolution_param {{ num_output: 32 kernel_size: 3 pad: 1 bias_term: false
                             weight_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }}
"""


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.skipif(native.library() is None, reason=native.LIBRARY.state())
def test_layers_take_them(below, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(f"force_backward: {str(below).lower()}" + NET.format(below=str(below).lower()))
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    with ways.taken(ways.preferred(OWN)), choice.noting() as noted:
        net.forward()
        net.backward()
    assert noted == [
        ("convolution, forward", OWN),
        ("inner product, forward", "product"),
        *[("convolution, to data", OWN)] * below,
        ("convolution, to weights", OWN),
    ]
