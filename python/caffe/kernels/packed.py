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


class Convolution(NamedTuple):
    """What a convolution computes with; weight: (K, C / groups, h, w), bias: (K,)."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    geometry: Geometry
    activation: Activation


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
    if steps.fits(x) and activation.name in ("none", "relu"):
        makers = {**_own(weight, bias, geometry, activation, x.shape), **makers}
    details = (x.dtype, *x.shape, *weight.shape, geometry, activation, other is not None)
    return choice.make_fastest("convolution", details, makers, _timed(x, other))


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


def _own(weight, bias, geometry, activation, shape):
    """{name: maker of the call} of the engine's own kernels for images of a shape."""
    (stride, pad, dilation, *_, groups), image, kernel = geometry, shape[2:], weight.shape[2:]
    sizes = tuple(map(convolved, image, kernel, stride, pad, dilation))
    windows = steps.Windows(image, sizes, tuple(kernel), stride, pad, dilation)
    rectify = activation.name == "relu"
    return steps.convolutions(weight, bias, windows, groups, rectify, shape[0])


def separable(
    first: Convolution, then: Convolution, apart: Run, x: torch.Tensor, other: torch.Tensor | None
) -> Run:
    """The fastest run(x, other) of a convolution by channel and a product of 1 x 1 of its tops.

    `apart` does one after the other; see convolution.
    """
    names = {first.activation.name, then.activation.name}
    if not choice.is_measured() or not steps.fits_channels(x) or not names <= {"none", "relu"}:
        return apart
    by_channel = _own(*first, x.shape)["own"]()
    makers: dict[str, Callable[[], Run]] = {"apart": lambda: apart}
    for name, make in _own(*then, by_channel.shape).items():
        if name in ("own product", "own tiles"):
            makers[f"together, {name}"] = lambda make=make: steps.separable(by_channel, make())
    details = (
        *(x.dtype, x.shape, *first.weight.shape, first.geometry, len(then.weight)),
        other is not None,
    )
    return choice.make_fastest("separable", details, makers, _timed(x, other))


def _timed(x, other):
    """From a Run to what is measured: of a Call as a plan runs it (run/plan.py), in its memory."""

    def of(run):
        if not isinstance(run, steps.Call):
            return lambda: run(x, other)
        into = steps.new(run.shape, run.dtype) if other is None else other.clone()
        return lambda: run(x, None if other is None else into, into)

    return of


def inner_product(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation, x: torch.Tensor
) -> Run:
    """The fastest run(x, None) = activation(x W^T + bias), (N, K), for tensors like these.

    x: (N, C) or (N, C, H, W), channels last; weight: (K, C H W).
    """
    makers: dict[str, Callable[[], Run]] = {
        "oneDNN": lambda: _by_linear(weight, bias, activation, len(x))
    }
    if activation.name in ("none", "relu"):
        rectify = activation.name == "relu"
        makers["product"] = lambda: _by_product(weight, bias, rectify)
        if steps.fits(x):
            makers["own"] = lambda: steps.product(weight, bias, rectify, x.shape)
    details = (x.dtype, *x.shape, len(weight), activation)
    return choice.make_fastest("inner product", details, makers, _timed(x, None))


def _by_product(weight, bias, rectify):
    """By the weights as they are, for which no more memory is needed: good for a row or two."""

    def run(x, other):
        y = torch.nn.functional.linear(x.reshape(len(x), -1), weight, bias)
        return y.relu_() if rectify else y

    return run


def _by_linear(weight, bias, activation, rows):
    multiply = linear(weight, bias, activation, rows)
    return lambda x, other: multiply(x.reshape(rows, -1))


def linear(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation, rows: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """run(x) = activation(x W^T + bias), (rows, K); x: (rows, C); weight: (K, C)."""
    packed = _ops._reorder_linear_weight(weight.contiguous(), rows)
    multiply, (name, scalars) = _ops._linear_pointwise.default, activation
    return lambda x: multiply(x, packed, bias, name, scalars, "")
