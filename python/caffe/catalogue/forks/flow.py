"""Layers of optical flow: Correlation and FlowWarp (FlowNet, FlowNet2)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv_transpose2d, pad

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register


@register
class Correlation(TensorLayer):
    """How alike the patches of two images are, for every displacement of the second.

    bottoms: a, b, (N, C, H, W); top: (N, D^2, H', W'), D = 2 (max_displacement / stride_2) + 1
    displacements each way, rows first; H' = (H + 2 pad - 2 (max_displacement + kernel_size / 2)) /
    stride_1, rounded up. A value is the mean over C and kernel_size^2 pixels of the products, or
    with SUBTRACT of the absolute differences. Options: correlation_param. Dosovitskiy et al., 2015.
    """

    bottom_count = (2, 2)
    param_name = "correlation_param"

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if options.kernel_size % 2 == 0 or not options.HasField("max_displacement"):
            raise self.error(
                f"needs an odd kernel_size and max_displacement; found kernel_size "
                f"{options.kernel_size}"
            )
        if options.single_direction or options.do_abs:
            warnings.warn(
                f"layer {self.name!r} (Correlation): single_direction and do_abs change nothing, "
                "as in FlowNet2; correlation_type: SUBTRACT takes absolute differences",
                stacklevel=2,
            )
        check_positive(self.error, strides=(options.stride_1, options.stride_2))
        reach = options.max_displacement // options.stride_2
        steps = range(-reach * options.stride_2, (reach + 1) * options.stride_2, options.stride_2)
        self.moves = list(itertools.product(steps, steps))  # (down, right) of each channel
        self.multiplies = options.correlation_type == options.MULTIPLY

    def reshape(self, *shapes: Shape) -> list[Shape]:
        options, (one, other) = self.options, map(tuple, shapes)
        if one != other or len(one) != 4:
            raise self.shape_error(f"the bottoms must be (N, C, H, W), alike; found {one}, {other}")
        border = 2 * (options.max_displacement + options.kernel_size // 2 - options.pad)
        sizes = [-(-(size - border) // options.stride_1) for size in one[2:]]
        if min(sizes) <= 0:
            raise self.shape_error(
                f"pad {options.pad}, kernel_size {options.kernel_size} and max_displacement "
                f"{options.max_displacement} leave {sizes} of the bottom {one}"
            )
        # how much of an image the patches cover
        self.cover = [(size - 1) * options.stride_1 + options.kernel_size for size in sizes]
        return [(one[0], len(self.moves), *sizes)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self._padded(a), self._padded(b)
        fixed, made = a[self._window(0, 0)], []
        for move in self.moves:
            other = b[self._window(*move)]
            terms = fixed * other if self.multiplies else (fixed - other).abs()
            made.append(self._patches(terms.mean(1, keepdim=True)))
        return device.layout(torch.cat(made, 1))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        a, b = map(self._padded, bottoms)
        here = self._window(0, 0)
        da, db = torch.zeros_like(a), torch.zeros_like(b)
        for move, dy in zip(self.moves, diffs[0].split(1, 1), strict=True):
            there, slope = self._window(*move), self._spread(dy) / a.shape[1]
            if self.multiplies:
                da[here] += slope * b[there]
                db[there] += slope * a[here]
            else:
                signed = slope * (a[here] - b[there]).sign()
                da[here] += signed
                db[there] -= signed
        return [
            self._cropped(dx, bottoms[0]) if want else None
            for dx, want in zip((da, db), wanted, strict=True)
        ]

    def _padded(self, x: Tensor) -> Tensor:
        return pad(x, (self.options.pad,) * 4)

    def _cropped(self, x: Tensor, like: Tensor) -> Tensor:
        (height, width), first = like.shape[2:], self.options.pad
        return device.layout(x[:, :, first : first + height, first : first + width])

    def _window(self, down: int, right: int) -> tuple:
        """The part of a padded image that the patches cover, moved."""
        top, left = self.options.max_displacement + down, self.options.max_displacement + right
        return (
            slice(None),
            slice(None),
            slice(top, top + self.cover[0]),
            slice(left, left + self.cover[1]),
        )

    def _patches(self, x: Tensor) -> Tensor:
        """The mean of every patch of (N, 1, H, W)."""
        return avg_pool2d(x, self.options.kernel_size, self.options.stride_1)

    def _spread(self, dy: Tensor) -> Tensor:
        """The gradient of `_patches`."""
        size = self.options.kernel_size
        share = dy.new_full((1, 1, size, size), 1 / size**2)
        return conv_transpose2d(dy, share, stride=self.options.stride_1)


@register
class FlowWarp(TensorLayer):
    """Each pixel from where a flow says that it has come, between pixels bilinearly.

    bottom 0: (N, C, H, W); bottom 1: the flow, (N, 2, H, W), right and down, in pixels; top: (N,
    C, H, W). Where the flow leads outside the image the top is 0, or not a number with fill_value:
    NOT_A_NUMBER, and passes no gradient. Options: flow_warp_param. FlowNet2; Ilg et al., 2017.
    """

    bottom_count = (2, 2)
    param_name = "flow_warp_param"

    def reshape(self, *shapes: Shape) -> list[Shape]:
        image, flow = map(tuple, shapes)
        if len(image) != 4 or flow != (image[0], 2, *image[2:]):
            raise self.shape_error(
                f"needs an image (N, C, H, W) and a flow (N, 2, H, W); found {image} and {flow}"
            )
        return [image]

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        corners, (right, down), inside = self._places(image, flow)
        y = sum(
            self._taken(image, place) * weight
            for place, weight in zip(corners, self._shares(right, down), strict=True)
        )
        not_a_number = self.options.fill_value == self.options.NOT_A_NUMBER
        return device.layout(torch.where(inside, y, torch.nan if not_a_number else 0))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        image, flow = bottoms
        corners, (right, down), inside = self._places(image, flow)
        dy = torch.where(inside, diffs[0], 0)
        found: list[Tensor | None] = [None, None]
        if wanted[0]:
            found[0] = self._spread(dy, corners, self._shares(right, down))
        if wanted[1]:
            a, b, c, d = (
                (self._taken(image, place) * dy).sum(1, keepdim=True) for place in corners
            )
            dright = (b - a) * (1 - down) + (d - c) * down
            ddown = (c - a) * (1 - right) + (d - b) * right
            found[1] = device.layout(torch.cat([dright, ddown], 1))
        return found

    @staticmethod
    def _places(image: Tensor, flow: Tensor):
        """The four pixels around each place, its distances from the first, whether it is inside.

        Pixels are numbered y W + x, (N, 1, H, W) like the distances.
        """
        height, width = image.shape[2:]
        x = torch.arange(width, device=flow.device) + flow[:, :1]
        y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1:]
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        x, y = x.where(inside, 0), y.where(inside, 0)
        left, top = x.long(), y.long()
        beside, below = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
        corners = [row * width + column for row in (top, below) for column in (left, beside)]
        return corners, (x - left, y - top), inside

    @staticmethod
    def _shares(right: Tensor, down: Tensor) -> list[Tensor]:
        return [row * column for row in (1 - down, down) for column in (1 - right, right)]

    @staticmethod
    def _taken(image: Tensor, places: Tensor) -> Tensor:
        """The pixels (N, C, H, W) at `places`."""
        flat = places.flatten(2).expand(-1, image.shape[1], -1)
        return image.flatten(2).gather(2, flat).view(image.shape)

    @staticmethod
    def _spread(dy: Tensor, corners: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
        """The gradient of the image: what each of its pixels gave."""
        dx = torch.zeros_like(dy, memory_format=torch.contiguous_format).flatten(2)
        for places, share in zip(corners, shares, strict=True):
            flat = places.flatten(2).expand(-1, dy.shape[1], -1)
            dx.scatter_add_(2, flat, (dy * share).flatten(2))
        return device.layout(dx.view(dy.shape))
