"""Winograd's convolutions of 3 x 3 with stride 1, in training; see native/winograd.cpp.

fp32, on a CPU. Weights are transformed at every call, since every iteration changes them.
"""

import torch

from caffe_plain.geometry import convolved

from . import steps

_KERNEL = (3, 3)


def takes(x: torch.Tensor, weight: torch.Tensor, pad: tuple[int, ...]) -> bool:
    """Whether images x (N, C, H, W) can be convolved with weight (K, C, 3, 3), and back."""
    return (
        weight.shape[2:] == _KERNEL
        and weight.dtype == torch.float32
        and steps.fits(x)
        and steps.fits(weight)
        and max(pad) < 3
        and not any(size % steps.LANES for size in weight.shape[:2])
    )


def forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: tuple[int, int]
) -> torch.Tensor:
    """x * weight + bias, (N, K, ...), channels last."""
    return _convolve(x, steps.winograd_weights(weight), bias, len(weight), pad)


def data_gradient(dy: torch.Tensor, weight: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    """The diff of forward's x."""
    turned = steps.winograd_weights(weight, of_gradient=True)
    return _convolve(dy, turned, None, weight.shape[1], (2 - pad[0], 2 - pad[1]))


def _convolve(x, packed, bias, outputs, pad):
    x = x.contiguous(memory_format=torch.channels_last)
    count, inputs, *image = x.shape
    sizes = tuple(map(convolved, image, _KERNEL, (1, 1), pad, (1, 1)))
    windows = steps.Windows(tuple(image), sizes, _KERNEL, pad=pad)
    bias = steps.panels_of(bias, outputs)
    counts, shape = (count, inputs, outputs), (count, outputs, *sizes)
    return steps.Call("convolve_winograd", counts, windows, shape, packed, bias)(x)
