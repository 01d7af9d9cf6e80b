"""Layers of segmentation nets that change sizes: Interp and Upsample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register


@register
class Interp(TensorLayer):
    """Resizes images bilinearly, corner pixels onto corner pixels.

    bottom: (N, C, H, W), of which pad_beg and pad_end, 0 or less, cut rows and columns off; top:
    (N, C, height, width) if these are given, else the size shrunk by shrink_factor,
    (H - 1) / shrink_factor + 1, then zoomed by zoom_factor, H + (H - 1) (zoom_factor - 1). Options:
    interp_param. DeepLab and PSPNet.
    """

    param_name = "interp_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if options.pad_beg > 0 or options.pad_end > 0:
            raise self.error(
                f"pad_beg and pad_end only cut off and are 0 or less; found {options.pad_beg} and "
                f"{options.pad_end}"
            )
        check_positive(
            self.error, zoom_factor=(options.zoom_factor,), shrink_factor=(options.shrink_factor,)
        )
        if bool(options.height) != bool(options.width):
            raise self.error(
                f"give both height and width; found {options.height} and {options.width}"
            )

    def reshape(self, *shapes: Shape) -> list[Shape]:
        options, shape = self.options, tuple(shapes[0])
        if len(shape) != 4:
            raise self.shape_error(f"the bottom must be (N, C, H, W); found {shape}")
        self.inside = tuple(size + options.pad_beg + options.pad_end for size in shape[2:])
        self.sizes = (options.height, options.width)
        if not options.height:
            self.sizes = tuple(map(self._zoomed, self.inside))
        if min(self.inside + self.sizes) <= 0:
            raise self.shape_error(
                f"bottom {shape}: {self.inside} pixels are left of it, {self.sizes} are wanted"
            )
        self.shape = shape
        return [shape[:2] + self.sizes]

    def _zoomed(self, size: int) -> int:
        size = (size - 1) // self.options.shrink_factor + 1
        return size + (size - 1) * (self.options.zoom_factor - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(
            self._cut(x), self.sizes, mode="bilinear", align_corners=True
        )

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        inside = torch.ops.aten.upsample_bilinear2d_backward(
            diffs[0], self.sizes, (*self.shape[:2], *self.inside), True
        )
        if self.inside == self.shape[2:]:
            return [inside]
        dx = diffs[0].new_zeros(self.shape)
        self._cut(dx).copy_(inside)
        return [device.layout(dx)]

    def _cut(self, x: Tensor) -> Tensor:
        begin, (height, width) = -self.options.pad_beg, self.inside
        return x[:, :, begin : begin + height, begin : begin + width]


@register
class Upsample(TensorLayer):
    """Enlarges images: to the places where a pooling found its maxima, or by repeating pixels.

    bottom 0: (N, C, H, W). With a bottom 1, the second top of a Pooling (SegNet): each value goes
    to the place y W' + x that its mask names, all else is 0; top: (N, C, H', W'), upsample_h and
    upsample_w, or H scale_h - 1 with pad_out_h, H scale_h without; scale (2) is for both. With one
    bottom (MobileNet-YOLO): each pixel becomes scale x scale pixels (scale is 1 unless given).
    Options: upsample_param.
    """

    bottom_count = (1, 2)
    param_name = "upsample_param"
    reads_bottom = False
    replays = False  # it checks the places

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        self.scales = [
            getattr(options, side) if options.HasField(side) else self._scale(len(shapes))
            for side in ("scale_h", "scale_w")
        ]
        check_positive(self.error, scale=self.scales)
        if len(shapes) == 1 and [f.name for f, _ in options.ListFields() if f.name != "scale"]:
            raise self.error(
                "with one bottom (YOLO's Upsample) only scale counts; give the mask of a Pooling "
                "as bottom 1 (SegNet's), or delete the other options"
            )

    def _scale(self, bottoms: int) -> int:
        default = 2 if bottoms == 2 else 1
        return self.options.scale if self.options.HasField("scale") else default

    def reshape(self, *shapes: Shape) -> list[Shape]:
        options, shape = self.options, tuple(shapes[0])
        if len(shape) != 4 or any(tuple(other) != shape for other in shapes):
            raise self.shape_error(
                f"needs (N, C, H, W) and a mask of the same shape; found {list(map(tuple, shapes))}"
            )
        sizes = [
            size * scale - pad
            for size, scale, pad in zip(
                shape[2:], self.scales, (options.pad_out_h, options.pad_out_w), strict=True
            )
        ]
        if options.HasField("upsample_h") and options.HasField("upsample_w"):
            sizes = [options.upsample_h, options.upsample_w]
        self.shape, self.sizes = shape, tuple(sizes)
        return [shape[:2] + self.sizes]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            y = x.repeat_interleave(self.scales[0], 2).repeat_interleave(self.scales[1], 3)
            return device.layout(y)
        self.places = mask.flatten(2).long()
        count = self.sizes[0] * self.sizes[1]
        if int(self.places.min()) < 0 or int(self.places.max()) >= count:
            raise self.error(
                f"the mask names places {int(self.places.min())} to {int(self.places.max())}; a "
                f"top of {self.sizes} has 0 to {count - 1}: give upsample_h and upsample_w, the "
                "size that the Pooling had at its bottom"
            )
        y = x.new_zeros(*self.shape[:2], count).scatter_(2, self.places, x.flatten(2))
        return device.layout(y.unflatten(2, self.sizes))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        """No gradient reaches the mask."""
        dy, (height, width) = diffs[0], self.shape[2:]
        if len(bottoms) == 2:
            dx = dy.flatten(2).gather(2, self.places).view(self.shape)
            return [device.layout(dx) if wanted[0] else None, None]
        blocks = dy.reshape(*self.shape[:2], height, self.scales[0], width, self.scales[1])
        return [device.layout(blocks.sum((3, 5)))]
