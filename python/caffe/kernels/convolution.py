"""Convolutions and their gradients, each in several ways; see choice for which of them is taken.

x: (N, C, H, W), or with one or three spatial axes; geometry: a Geometry. PyTorch's own
way is oneDNN on a CPU, cuDNN on a GPU.
"""

import torch

from . import blocks, cpu, linear, products, winograd
from .choice import Operation

_MOST_COPIED_BYTES = 64 << 20  # by a product that needs x for each place of the kernel

_backward = torch.ops.aten.convolution_backward

forward = Operation("convolution, forward")  # (x, weight, bias or None, geometry): y
data_gradient = Operation("convolution, to data")  # (dy, x, weight, geometry): dx
# (dy, x, weight, whether there is a bias, geometry): (dweight, dbias or None)
weight_gradient = Operation("convolution, to weights")


@forward.way("convolution")
def _forward(x, weight, bias, geometry):
    return torch.convolution(x, weight, bias, *geometry)


@forward.way("product", lambda x, weight, bias, geometry: geometry.multiplies_pixels(weight))
def _forward_product(x, weight, bias, geometry):
    return products.forward(products.take(x, geometry.stride), weight, bias)


@forward.way(
    "inner product",
    lambda x, weight, bias, geometry: geometry.multiplies_pixels(weight) and linear.suits_onednn(x),
)
def _forward_inner_product(x, weight, bias, geometry):
    taken = products.take(x, geometry.stride)
    return products.images(linear.by_onednn(products.rows(taken), weight.flatten(1), bias), taken)


@forward.way(
    "own", lambda x, weight, bias, geometry: bias is None and _convolves(x, weight, geometry)
)
def _forward_own(x, weight, bias, geometry):
    return cpu.convolve_3x3(x, weight)


@forward.way("Winograd", lambda x, weight, bias, geometry: _suits_winograd(x, weight, geometry))
def _forward_winograd(x, weight, bias, geometry):
    return winograd.forward(x, weight, bias, geometry.pad)


@forward.way("blocks", lambda x, weight, bias, geometry: blocks.takes(weight, geometry))
def _forward_blocks(x, weight, bias, geometry):
    return blocks.forward(x, weight, bias, geometry)


@data_gradient.way("convolution")
def _data_gradient(dy, x, weight, geometry):
    return _backward(dy, x, weight, None, *geometry, (True, False, False))[0]


@data_gradient.way("product", lambda dy, x, weight, geometry: geometry.multiplies_pixels(weight))
def _data_gradient_product(dy, x, weight, geometry):
    return products.spread(products.data_gradient(dy, weight), x, geometry.stride)


@data_gradient.way(
    "own", lambda dy, x, weight, geometry: dy.dtype == x.dtype and _convolves(x, weight, geometry)
)
def _data_gradient_own(dy, x, weight, geometry):
    return cpu.convolve_3x3_data_gradient(dy, x, weight)


@data_gradient.way(
    "Winograd",
    lambda dy, x, weight, geometry: dy.dtype == x.dtype and _suits_winograd(x, weight, geometry),
)
def _data_gradient_winograd(dy, x, weight, geometry):
    return winograd.data_gradient(dy, weight, geometry.pad)


@weight_gradient.way("convolution")
def _weight_gradient(dy, x, weight, has_bias, geometry):
    # NOTE: for kernels of 1 x 1 with a stride, and fewer than 16 channels, oneDNN's own writes past
    # its memory (PyTorch 2.13); so the pixels that the stride takes are copied first
    is_plain = not any(geometry.pad) and not geometry.transposed
    if x.is_cpu and weight.shape[2:].numel() == 1 and is_plain:
        x = products.take(x, geometry.stride)
        geometry = geometry._replace(stride=(1,) * len(geometry.stride))
    sizes = [dy.shape[1]] if has_bias else None
    return _backward(dy, x, weight, sizes, *geometry, (False, True, has_bias))[1:]


@weight_gradient.way(
    "product", lambda dy, x, weight, has_bias, geometry: geometry.multiplies_pixels(weight)
)
def _weight_gradient_product(dy, x, weight, has_bias, geometry):
    taken = products.take(x, geometry.stride)
    return products.weight_gradient(dy, taken, weight), bias_gradient(dy) if has_bias else None


@weight_gradient.way(
    "windows",
    lambda dy, x, weight, has_bias, geometry: (
        geometry.is_dense
        and weight.shape[2:].numel() > 1
        and x.nbytes * weight.shape[2:].numel() <= _MOST_COPIED_BYTES
    ),
)
def _weight_gradient_windows(dy, x, weight, has_bias, geometry):
    dweight = products.kernel_gradient(dy, x, weight.shape[2:], geometry.pad)
    return dweight, bias_gradient(dy) if has_bias else None


@weight_gradient.way(
    "own",
    lambda dy, x, weight, has_bias, geometry: (
        dy.dtype == x.dtype and not has_bias and _convolves(x, weight, geometry)
    ),
)
def _weight_gradient_own(dy, x, weight, has_bias, geometry):
    return cpu.convolve_3x3_weight_gradient(dy, x, weight), None


@weight_gradient.way(
    "blocks", lambda dy, x, weight, has_bias, geometry: blocks.takes(weight, geometry)
)
def _weight_gradient_blocks(dy, x, weight, has_bias, geometry):
    return blocks.weight_gradient(dy, x, weight, has_bias, geometry)


def bias_gradient(dy: torch.Tensor) -> torch.Tensor:
    """The sum over images and pixels, (K,)."""
    return dy.sum([0, *range(2, dy.dim())])


def _convolves(x, weight, geometry):
    return geometry.is_dense and geometry.pad == (1, 1) and cpu.convolves(x, weight)


def _suits_winograd(x, weight, geometry):
    return geometry.is_dense and winograd.takes(x, weight, geometry.pad)
