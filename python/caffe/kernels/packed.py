"""Convolutions and inner products with weights packed for the processor, by oneDNN.

What follows a product is done while its values are still in registers: a bias, a sum with other
values, an activation. For passes that no backward follows. oneDNN's ReLU makes 0 of NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_ops = torch.ops.mkldnn


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
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _has_bf16())


def _has_bf16() -> bool:
    return _ops._is_mkldnn_bf16_supported()


def pack_convolution(
    weight: torch.Tensor, geometry: Geometry, shape: tuple[int, ...]
) -> torch.Tensor:
    """The weights (K, C / groups, h, w) as a convolution of images of `shape` reads them."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    return _ops._reorder_convolution_weight(weight, *geometry, shape)


def convolve(
    x: torch.Tensor,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    other: torch.Tensor | None,
    activation: Activation,
) -> torch.Tensor:
    """activation(x * weights + bias + other): (N, K, H', W'), channels last; x: (N, C, H, W).

    With groups, `other` must be None.
    """
    name, scalars = activation
    if other is None:
        return _ops._convolution_pointwise(x, packed, bias, *geometry, name, scalars, "")
    return _ops._convolution_pointwise.binary(
        x, other, packed, bias, *geometry, "add", 1.0, None if name == "none" else name, scalars, ""
    )


def pack_linear(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """The weights (K, C) as a product with so many rows reads them."""
    return _ops._reorder_linear_weight(weight.contiguous(), rows)


def multiply(
    x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, activation: Activation
) -> torch.Tensor:
    """activation(x W^T + bias): (N, K); x: (N, C)."""
    return _ops._linear_pointwise(x, packed, bias, *activation, "")
