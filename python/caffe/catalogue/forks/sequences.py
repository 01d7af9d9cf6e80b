"""Layers that only move values, from forks that read text and find lines: Reverse, Transpose."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from .ssd import Permute


@register
class Reverse(TensorLayer):
    """Turns the order of values along `axis` (default 0) round.

    bottom, top: any shape. Options: reverse_param. CTPN, TextBoxes++.
    """

    param_name = "reverse_param"
    reads_bottom = False

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.axis = self.canonical_axis(self.options.axis, shapes[0])
        return [shapes[0]]

    def forward(self, x: Tensor) -> Tensor:
        return device.layout(x.flip(self.axis))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        return [device.layout(diffs[0].flip(self.axis))]


@register
class Transpose(Permute):
    """Puts the axes in another order: axis i of the top is axis dim[i] of the bottom.

    bottom: any shape; top: the same sizes. Options: transpose_param, whose dim names every axis
    once. CTPN; Permute of SSD need not name all.
    """

    param_name = "transpose_param"

    def setup(self, *shapes: Shape) -> None:
        order = list(self.options.dim)
        if sorted(order) != list(range(len(shapes[0]))):
            raise self.error(
                f"dim {order} must name each axis of the bottom {tuple(shapes[0])} once"
            )
        self.put_in(order)
