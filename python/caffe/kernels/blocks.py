"""Strided convolutions of few channels as dense ones of more, known as space to depth.

Blocks of stride x stride pixels of x become pixels, and a kernel of k x k one of ceil(k / stride):
the 7 x 7 x 3 at every second pixel with which many nets begin becomes 4 x 4 x 16 at every pixel,
and the sums are the same. x: (N, C, H, W); weight: (K, C, h, w); the stride is alike on both axes.
"""

import torch

from caffe_plain.geometry import convolved

from .geometry import Geometry

_MOST_CHANNELS = 4  # with more, there is little to gain
_ALIGNED = 8  # channels that tensor cores take together

_backward = torch.ops.aten.convolution_backward
_DENSE = Geometry((1, 1), (0, 0), (1, 1), False, (0, 0), 1)


def takes(weight: torch.Tensor, geometry: Geometry) -> bool:
    """Whether a convolution can be computed so, and may gain by it."""
    step = geometry.stride[0]
    return (
        weight.dim() == 4
        and set(geometry.stride) == {step}
        and 1 < step <= min(weight.shape[2:])
        and weight.shape[1] <= _MOST_CHANNELS
        and geometry.dilation == (1, 1)
        and geometry.groups == 1
        and not geometry.transposed
    )


def forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry
) -> torch.Tensor:
    """x * weight + bias."""
    return torch.convolution(
        _image_blocks(x, weight, geometry), _kernel_blocks(weight, geometry), bias, *_DENSE
    )


def weight_gradient(
    dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, has_bias: bool, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The diffs of forward's weight and bias."""
    blocks, kernel = _image_blocks(x, weight, geometry), _kernel_blocks(weight, geometry)
    sizes = [len(weight)] if has_bias else None
    wanted = (False, True, has_bias)
    _, diff, bias_diff = _backward(dy, blocks, kernel, sizes, *_DENSE, wanted)
    (outputs, _, *places), step = kernel.shape, geometry.stride[0]
    diff = diff.reshape(outputs, step, step, -1, *places).permute(0, 3, 4, 1, 5, 2)
    diff = diff.reshape(outputs, -1, *(step * size for size in places))
    channels, height, width = weight.shape[1:]
    return diff[:, :channels, :height, :width], bias_diff


def _image_blocks(x, weight, geometry):
    """Blocks of x, with its pad, as pixels: (N, stride stride C, ...), channels last."""
    (count, channels, *image), kernel, step = x.shape, weight.shape[2:], geometry.stride[0]
    borders = []
    for size, places, pad in zip(image, kernel, geometry.pad, strict=True):
        blocks = convolved(size, places, step, pad, 1) + -(-places // step) - 1
        borders = [pad, blocks * step - size - pad, *borders]  # torch wants the last axis first
    more = _more_channels(channels, step)
    x = torch.nn.functional.pad(x.movedim(1, -1), (0, more, *borders))
    height, width = (size // step for size in x.shape[1:3])
    x = x.reshape(count, height, step, width, step, channels + more).transpose(2, 3)
    return x.reshape(count, height, width, -1).movedim(-1, 1)


def _kernel_blocks(weight, geometry):
    """The weights for such pixels: (K, stride stride C, ceil(h / stride), ceil(w / stride))."""
    (outputs, channels, *kernel), step = weight.shape, geometry.stride[0]
    places = [-(-size // step) for size in kernel]
    rows, columns = (step * count - size for count, size in zip(places, kernel, strict=True))
    more = _more_channels(channels, step)
    weight = torch.nn.functional.pad(weight, (0, columns, 0, rows, 0, more))
    weight = weight.reshape(outputs, channels + more, places[0], step, places[1], step)
    # NOTE: not channels last: in fp64 PyTorch 2.13 refuses to make diffs of such kernels of n x 1
    return weight.permute(0, 3, 5, 1, 2, 4).reshape(outputs, -1, *places).contiguous()


def _more_channels(channels, step):
    """0, or 1 where that makes blocks which tensor cores like."""
    return int(step * step * channels % _ALIGNED and not step * step * (channels + 1) % _ALIGNED)
