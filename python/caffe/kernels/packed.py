"""Convolutions and inner products with weights packed for the processor, by oneDNN or own kernels.

What follows a product is done while its values are still in registers: a bias, a sum with other
values, an activation. For passes that no backward follows. oneDNN's ReLU makes 0 of NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from caffe_plain.geometry import convolved

from . import choice, steps
from .geometry import Geometry

Run = Callable[..., torch.Tensor]  # (x, other or None)

_ops = torch.ops.mkldnn


class Activation(NamedTuple):
    """What oneDNN calls an activation, with its numbers."""

    name: str = "none"
    scalars: tuple[float, ...] = ()


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
    if other is None and geometry.multiplies_pixels(weight) and max(geometry.stride) == 1:
        makers["inner product"] = lambda: _by_rows(weight, bias, activation, x)
    if not choice.is_measured():
        return makers["oneDNN"]()
    runs = {name: make() for name, make in makers.items()}
    ways = {name: (lambda run=run: run(x, other)) for name, run in runs.items()}
    if steps.fits(x) and activation.name in ("none", "relu"):
        own = _own(weight, bias, geometry, activation, x)
        runs.update(own)
        ways.update({name: _as_planned(call, x, other) for name, call in own.items()})
    details = (x.dtype, *x.shape, *weight.shape, geometry, other is not None)
    return runs[choice.fastest("convolution", details, ways)]


def _by_onednn(weight, bias, geometry, activation, shape):
    weight = weight.contiguous(memory_format=torch.channels_last)
    (name, scalars), (stride, pad, dilation, *_, groups) = activation, geometry
    packed = _ops._reorder_convolution_weight(weight, pad, stride, dilation, groups, shape)
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


def _own(weight, bias, geometry, activation, x):
    """{name: call} of the engine's own kernels."""
    (stride, pad, dilation, *_, groups), image, kernel = geometry, x.shape[2:], weight.shape[2:]
    sizes = tuple(map(convolved, image, kernel, stride, pad, dilation))
    windows = steps.Windows(image, sizes, tuple(kernel), stride, pad, dilation)
    rectify = activation.name == "relu"
    return steps.convolutions(weight, bias, windows, groups, rectify, len(x))


def _as_planned(call, x, other):
    """Runs a call as a plan does (run/plan.py): into memory that is there, sums in place."""
    into = steps.new(call.shape) if other is None else other.clone()
    return lambda: call(x, None if other is None else into, into)


def inner_product(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation, x: torch.Tensor
) -> Run:
    """The fastest run(x, None) = activation(x W^T + bias), (N, K), for tensors like these.

    x: (N, C) or (N, C, H, W), channels last; weight: (K, C H W).
    """
    multiply = linear(weight, bias, activation, len(x))
    runs: dict[str, Run] = {"oneDNN": lambda x, other: multiply(x.reshape(len(x), -1))}
    ways = {"oneDNN": lambda: runs["oneDNN"](x, None)}
    if choice.is_measured() and steps.fits(x) and activation.name in ("none", "relu"):
        runs["own"] = call = steps.product(weight, bias, activation.name == "relu", x.shape)
        ways["own"] = _as_planned(call, x, None)
    return runs[choice.fastest("inner product", (x.dtype, *x.shape, len(weight)), ways)]


def linear(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation, rows: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """run(x) = activation(x W^T + bias), (rows, K); x: (rows, C); weight: (K, C)."""
    packed = _ops._reorder_linear_weight(weight.contiguous(), rows)
    multiply, (name, scalars) = _ops._linear_pointwise.default, activation
    return lambda x: multiply(x, packed, bias, name, scalars, "")
