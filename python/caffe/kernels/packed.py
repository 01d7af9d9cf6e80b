"""Convolutions and inner products with weights packed for the processor, by oneDNN or own kernels.

What follows a product is done while its values are still in registers: a bias, a sum with other
values, an activation. For passes that no backward follows. oneDNN's ReLU makes 0 of NaN.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch

from . import choice, native

Run = Callable[..., torch.Tensor]  # (x, other or None)

_ops = torch.ops.mkldnn
_PANEL = 32  # outputs that the own kernel packs together


class Activation(NamedTuple):
    """What oneDNN calls an activation, with its numbers."""

    name: str = "none"
    scalars: tuple[float, ...] = ()


class Geometry(NamedTuple):
    """Of a convolution over two axes."""

    pad: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def takes(x: torch.Tensor) -> bool:
    """Whether oneDNN is there and computes with values like x: fp32, or bf16 where it can."""
    if not x.is_cpu or not x.numel() or not torch.backends.mkldnn.is_available():
        return False
    return x.dtype == torch.float32 or (
        x.dtype == torch.bfloat16 and _ops._is_mkldnn_bf16_supported()
    )


def convolution(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    activation: Activation,
    x: torch.Tensor,
    other: torch.Tensor | None,
) -> Run:
    """The fastest run(x, other) = activation(x * weight + bias + other) for tensors like these.

    x, other and the result: (N, C, H, W), channels last; weight: (K, C / groups, h, w), the bias
    (K,). `other` is None or not as it is here, and always with groups.
    """
    makers: dict[str, Callable[[], Run]] = {
        "oneDNN": lambda: _by_onednn(weight, bias, geometry, activation, x.shape)
    }
    if other is None and _is_product(weight, geometry):
        makers["inner product"] = lambda: _by_rows(weight, bias, activation, x)
    if _fits_own_kernel(x, geometry, activation):
        makers["own"] = lambda: _by_own_kernel(weight, bias, geometry, activation)
    runs = {name: make() for name, make in makers.items()} if choice.is_measured() else {}
    ways = {name: (lambda run=run: run(x, other)) for name, run in runs.items()}
    if not ways:
        return makers["oneDNN"]()
    details = (x.dtype, *x.shape, *weight.shape, geometry, other is not None)
    return runs[choice.fastest("convolution", details, ways)]


def _is_product(weight, geometry):
    """Whether every pixel is multiplied by one matrix."""
    pad, stride, _, groups = geometry
    return weight.shape[2:].numel() == groups == max(stride) == 1 and not any(pad)


def _fits_own_kernel(x, geometry, activation):
    return (
        native.library() is not None
        and x.dtype == torch.float32
        and geometry.groups == 1
        and activation.name in ("none", "relu")
    )


def _by_onednn(weight, bias, geometry, activation, shape):
    weight = weight.contiguous(memory_format=torch.channels_last)
    packed = _ops._reorder_convolution_weight(weight, *geometry, shape)
    (name, scalars), (pad, stride, dilation, groups) = activation, geometry
    plain, summed = _ops._convolution_pointwise.default, _ops._convolution_pointwise.binary
    after_sum = None if name == "none" else name

    def run(x, other):
        if other is None:
            return plain(x, packed, bias, pad, stride, dilation, groups, name, scalars, "")
        return summed(
            *(x, other, packed, bias, pad, stride, dilation, groups),
            *("add", 1.0, after_sum, scalars, ""),
        )

    return run


def _by_rows(weight, bias, activation, x):
    """A convolution of 1 x 1, as the product of a matrix with a row for each pixel."""
    count, channels, height, width = x.shape
    outputs = len(weight)
    multiply = linear(weight.flatten(1), bias, activation, count * height * width)

    def run(x, other):
        rows = x.as_strided((count * height * width, channels), (channels, 1))
        return (
            multiply(rows).view(count, height, width, outputs).permute(0, 3, 1, 2)
        )  # (N, K, H, W)

    return run


def _by_own_kernel(weight, bias, geometry, activation):
    """See native/inference.cpp."""
    (pad, stride, dilation, _), outputs = geometry, len(weight)
    panels = -(-outputs // _PANEL)
    packed = weight.new_zeros(panels * _PANEL, *weight.shape[1:])
    packed[:outputs] = weight
    packed = packed.view(panels, _PANEL, *weight.shape[1:]).permute(0, 3, 4, 2, 1).contiguous()
    shifts = weight.new_zeros(panels * _PANEL)
    if bias is not None:
        shifts[:outputs] = bias
    kernel, rectifies = weight.shape[2:], activation.name == "relu"
    convolve = native.library().convolve_packed

    def run(x, other):
        count, inputs, *sizes = x.shape
        axes = list(zip(sizes, kernel, stride, pad, dilation, strict=True))
        tops = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes]
        y = torch.empty(count, outputs, *tops, memory_format=torch.channels_last)
        both = [
            value
            for (size, *rule), top in zip(axes, tops, strict=True)
            for value in (size, top, *rule)
        ]
        convolve(
            x.data_ptr(),
            packed.data_ptr(),
            shifts.data_ptr(),
            None if other is None else other.data_ptr(),
            y.data_ptr(),
            (ctypes.c_int * 15)(count, inputs, outputs, *both),
            inputs,
            outputs,
            rectifies,
            torch.get_num_threads(),
        )
        return y

    return run


def linear(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation, rows: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """run(x) = activation(x W^T + bias), (rows, K); x: (rows, C); weight: (K, C)."""
    packed = _ops._reorder_linear_weight(weight.contiguous(), rows)
    multiply, (name, scalars) = _ops._linear_pointwise.default, activation
    return lambda x: multiply(x, packed, bias, name, scalars, "")
