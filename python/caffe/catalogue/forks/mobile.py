"""Layers of small nets: MobileNet, ShuffleNet, SENet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_plain.geometry import convolved

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from ..convolution import Convolution, _BaseConvolution


@register
class DepthwiseConvolution(Convolution):
    """Convolution, whose group is as large as the number of channels.

    bottom, top, blobs and options: those of Convolution. The MobileNet forks wrote it for speed;
    here both are computed alike.
    """


@register
class ConvolutionDepthwise(_BaseConvolution):
    """A convolution of each channel by a filter of its own: group and num_output are C.

    bottom: (N, C, H, W); top: (N, C, H', W') with the sizes of Convolution. Weights
    (C, 1, kernel_h, kernel_w), then a bias (C,) unless bias_term is false. Options:
    convolution_param, whose group does not count. From the MobileNet and ShuffleNet forks.
    """

    output_size = staticmethod(convolved)

    def setup(self, *shapes: Shape) -> None:
        given = self.options
        channels = shapes[0][self.canonical_axis(given.axis, shapes[0])]
        if given.HasField("num_output") and given.num_output != channels:
            raise self.error(
                f"num_output {given.num_output}: a filter for each of the {channels} channels of "
                f"the bottom {tuple(shapes[0])} makes as many outputs; delete it, or use "
                "Convolution with a group"
            )
        self.options = type(given)()
        self.options.CopyFrom(given)
        self.options.num_output = self.options.group = channels
        super().setup(*shapes)


@register
class ReLU6(TensorLayer):
    """y = min(max(x, 0), 6) + negative_slope min(x, 0).

    bottom, top: any shape. Options: relu6_param. From the MobileNetV2 forks.
    """

    param_name = "relu6_param"

    def forward(self, x: Tensor) -> Tensor:
        y = x.clamp(0, 6)
        slope = self.options.negative_slope
        return y + slope * x.clamp(max=0) if slope else y

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        x = bottoms[0]
        slope = ((x > 0) & (x < 6)).to(x.dtype)
        if self.options.negative_slope:
            slope = slope + self.options.negative_slope * (x <= 0)
        return [diffs[0] * slope]


@register
class ShuffleChannel(TensorLayer):
    """Mixes the channels of groups: channel i of group g becomes channel g of group i.

    bottom, top: (N, C, ...); C is a multiple of group. Options: shuffle_channel_param. Zhang et
    al., 2017.
    """

    param_name = "shuffle_channel_param"
    reads_bottom = False

    def reshape(self, *shapes: Shape) -> list[Shape]:
        group, shape = self.options.group, tuple(shapes[0])
        if len(shape) < 2 or group < 1 or shape[1] % group:
            raise self.shape_error(f"group {group} must divide the channels of the bottom {shape}")
        return [shape]

    def forward(self, x: Tensor) -> Tensor:
        return self._shuffle(x, self.options.group)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        return [self._shuffle(diffs[0], diffs[0].shape[1] // self.options.group)]

    @staticmethod
    def _shuffle(x: Tensor, group: int) -> Tensor:
        mixed = x.unflatten(1, (group, -1)).transpose(1, 2)  # (N, C / group, group, ...)
        return device.layout(mixed.flatten(1, 2))


@register
class Axpy(TensorLayer):
    """y = a x + b with one factor for each channel.

    bottom 0: a, (N, C) or (N, C, 1, 1); bottom 1: x, (N, C, H, W); bottom 2: b, like x; top: like
    x. SENet's fork; Hu et al., 2017.
    """

    bottom_count = (3, 3)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        factor, x, summand = map(tuple, shapes)
        if x != summand or len(x) < 2 or factor[:2] != x[:2] or set(factor[2:]) - {1}:
            raise self.shape_error(
                f"needs a (N, C, 1, 1), x (N, C, H, W) and b like x; found {factor}, {x}, {summand}"
            )
        return [x]

    def forward(self, factor: Tensor, x: Tensor, summand: Tensor) -> Tensor:
        return torch.addcmul(summand, self._spread(factor, x), x)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        (dy,), (factor, x, _) = diffs, bottoms
        axes = tuple(range(2, x.dim()))
        dfactor = (dy * x).sum(axes) if axes else dy * x
        return [
            dfactor.reshape(factor.shape) if wanted[0] else None,
            dy * self._spread(factor, x) if wanted[1] else None,
            dy.clone() if wanted[2] else None,
        ]

    @staticmethod
    def _spread(factor: Tensor, x: Tensor) -> Tensor:
        return factor.reshape(x.shape[:2] + (1,) * (x.dim() - 2))
