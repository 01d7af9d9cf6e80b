"""Layers of SSD that make features and prior boxes: Permute, Normalize, PriorBox."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from ...proto import caffe_pb2
from .boxes import BoxLayer


@register
class Permute(TensorLayer):
    """Puts the axes in another order.

    bottom: any shape; top: axis i is the bottom's axis order[i]; axes that order does not name
    follow in their own order. Options: permute_param. SSD.
    """

    param_name = "permute_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        order, axes = list(self.options.order), len(shapes[0])
        if len(set(order)) < len(order) or max(order, default=0) >= axes:
            raise self.error(
                f"order {order} must name axes of the bottom {tuple(shapes[0])}, each at most once"
            )
        self.put_in(order + [axis for axis in range(axes) if axis not in order])

    def put_in(self, order: list[int]) -> None:
        """Let axis i of the top be the bottom's axis order[i]."""
        self.order, self.inverse = order, [order.index(axis) for axis in range(len(order))]

    def reshape(self, *shapes: Shape) -> list[Shape]:
        if len(shapes[0]) != len(self.order):
            raise self.shape_error(
                f"was set up for {len(self.order)} axes; found {tuple(shapes[0])}"
            )
        return [tuple(shapes[0][axis] for axis in self.order)]

    def forward(self, x: Tensor) -> Tensor:
        return device.layout(x.permute(self.order))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        return [device.layout(diffs[0].permute(self.inverse))]


@register
class Normalize(TensorLayer):
    """Divides by a norm; SSD then multiplies by a learned scale.

    bottom, top: (N, C, ...). SSD (norm_param): n = sqrt(sum of x^2 + eps) over all axes but the
    first, or with across_spatial: false over the channels of each pixel; y = scale x / n with a
    blob scale, (C,), or one number with channel_shared; it starts at 1 unless scale_filler says
    otherwise. caffe-windows (normalize_param, or a bottom (N, C) without norm_param): the norm of
    the channels, L2 or L1, and no blob.
    """

    fork_fields = ("normalize_type",)
    reads_top = False

    def setup(self, *shapes: Shape) -> None:
        if len(shapes[0]) < 2:
            raise self.shape_error(f"needs a channel axis; bottom has shape {tuple(shapes[0])}")
        layer = self.layer_param
        if layer.HasField("norm_param") and layer.HasField("normalize_param"):
            raise self.error(
                "both norm_param (SSD) and normalize_param (caffe-windows) are given; keep one"
            )
        self.is_plain = layer.HasField("normalize_param") or (
            len(shapes[0]) == 2 and not layer.HasField("norm_param")
        )
        self.options = layer.normalize_param if self.is_plain else layer.norm_param
        if self.options.normalize_type not in ("L1", "L2"):
            raise self.error(f"normalize_type {self.options.normalize_type!r}: expected L1 or L2")
        if not self.is_plain:
            self._add_scale(shapes[0][1])

    def _add_scale(self, channels: int) -> None:
        filler = caffe_pb2.FillerParameter(type="constant", value=1)
        if self.options.HasField("scale_filler"):
            filler = self.options.scale_filler
        self.add_param(() if self.options.channel_shared else (channels,), filler)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        per_channel = bool(self.blobs) and not self.options.channel_shared
        if per_channel and self.blobs[0].shape[0] != shapes[0][1]:
            raise self.shape_error(
                f"has scales for {self.blobs[0].shape[0]} channels; bottom has shape "
                f"{tuple(shapes[0])}"
            )
        return [shapes[0]]

    def forward(self, x: Tensor) -> Tensor:
        unit = x / self._norm(x)
        return unit * self._scale(x) if self.blobs else unit

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        x = bottoms[0]
        dy, norm = diffs[0] * self._scale(x) if self.blobs else diffs[0], self._norm(x)
        along = (dy * x).sum(self._axes(x), keepdim=True) / norm  # dy along x / norm
        if self.options.normalize_type == "L1":
            return [(dy - along * x.sign()) / norm]
        return [(dy - along * x / norm) / norm]

    def backward_params(self, diffs: Diffs, bottoms: Tensors, tops: Tensors) -> None:
        if not self.blobs:
            return
        x = bottoms[0]
        axes = [i for i in range(x.dim()) if i != 1 or self.options.channel_shared]
        self.blobs[0].accumulate_diff((diffs[0] * x / self._norm(x)).sum(axes))

    def _norm(self, x: Tensor) -> Tensor:
        if self.options.normalize_type == "L1":
            return x.abs().sum(self._axes(x), keepdim=True).clamp(min=self.options.eps)
        return (x.square().sum(self._axes(x), keepdim=True) + self.options.eps).sqrt()

    def _axes(self, x: Tensor) -> list[int]:
        across = self.options.across_spatial and not self.is_plain
        return list(range(1, x.dim())) if across else [1]

    def _scale(self, x: Tensor) -> Tensor:
        scale = self.blobs[0].tensor.to(x.dtype)
        return scale.view((-1,) + (1,) * (x.dim() - 2)) if scale.dim() else scale


@register
class PriorBox(BoxLayer):
    """The boxes that each pixel of a feature map stands for, and their variances.

    bottom 0: features, (N, C, H, W); bottom 1: the image, (N, K, h, w); top: (1, 2, 4 H W P),
    boxes (xmin, ymin, xmax, ymax) in parts of the image, then variances. P: for each min_size one
    square box, one of sqrt(min_size max_size) if max_size is given, and one for each aspect_ratio
    (with flip also 1 / ratio). As in SSD, sizes count as whole numbers. With TextBoxes++'
    denser_prior_boxes each box is followed by one at the lower edge of its pixel, (row + 1) step.
    Options: prior_box_param.
    """

    bottom_count = (2, 2)
    param_name = "prior_box_param"
    fork_fields = ("denser_prior_boxes",)
    reads_bottom = False
    replays = True  # the boxes are made when the shapes are known

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if not options.min_size or min(options.min_size) <= 0:
            raise self.error(f"min_size must be positive; found {list(options.min_size)}")
        if options.max_size and len(options.max_size) != len(options.min_size):
            raise self.error(
                f"needs as many max_size as min_size; found {list(options.max_size)} and "
                f"{list(options.min_size)}"
            )
        pairs = zip(options.min_size, options.max_size, strict=False)
        if any(high <= low for low, high in pairs):
            raise self.error("each max_size must be larger than its min_size")
        if len(options.variance) not in (0, 1, 4) or min(options.variance, default=1) <= 0:
            raise self.error(f"variance takes 1 or 4 positive values; found {options.variance}")
        self.sizes = list(self._sizes())

    def _sizes(self):
        """(width, height) of the boxes of one pixel, in pixels of the image."""
        ratios = self._ratios()
        for low, high in itertools.zip_longest(self.options.min_size, self.options.max_size):
            low = int(low)
            yield low, low
            if high is not None:
                yield (math.sqrt(low * int(high)),) * 2
            for ratio in ratios:
                yield low * math.sqrt(ratio), low / math.sqrt(ratio)

    def _ratios(self) -> list[float]:
        """The aspect ratios besides 1."""
        found = [1.0]
        for ratio in self.options.aspect_ratio:
            if all(abs(ratio - other) >= 1e-6 for other in found):
                found += [ratio, 1 / ratio] if self.options.flip else [ratio]
        return found[1:]

    def reshape(self, *shapes: Shape) -> list[Shape]:
        for index, shape in enumerate(shapes):
            if len(shape) != 4:
                raise self.shape_error(f"bottom {index} must be (N, C, H, W); found {tuple(shape)}")
        (self.height, self.width), self.image = shapes[0][2:], self._image(shapes[1][2:])
        self.boxes = self._boxes()
        return [tuple(self.boxes.shape)]

    def _image(self, size: Shape) -> tuple[int, int]:
        options = self.options
        if options.HasField("img_size"):
            size = (options.img_size, options.img_size)
        elif options.HasField("img_h") or options.HasField("img_w"):
            size = (options.img_h, options.img_w)
        check_positive(self.error, image_size=size)
        return tuple(size)

    def _steps(self) -> tuple[float, float]:
        """The distance of pixels of the features, in pixels of the image: down and right."""
        options = self.options
        if options.HasField("step"):
            return options.step, options.step
        if options.HasField("step_h") or options.HasField("step_w"):
            return options.step_h, options.step_w
        return self.image[0] / self.height, self.image[1] / self.width

    def _boxes(self) -> Tensor:
        """The top, in double precision."""
        y, x = (
            (torch.arange(count, dtype=torch.float64) + self.options.offset) * step
            for count, step in zip((self.height, self.width), self._steps(), strict=True)
        )
        half = torch.tensor(self.sizes, dtype=torch.float64)[:, None] / 2  # (P, 1, 2): x, y
        y, x = torch.meshgrid(y, x, indexing="ij")  # (H, W)
        center = torch.stack([x, y], -1)[:, :, None, None]  # (H, W, 1, 1, 2)
        if self.options.denser_prior_boxes:
            lower = torch.tensor([0, (1 - self.options.offset) * self._steps()[0]])
            center = torch.cat([center, center + lower], 3)  # (H, W, 1, 2, 2)
        boxes = torch.cat([center - half, center + half], -1)  # (H, W, P, 1 or 2, 4)
        boxes /= torch.tensor([*self.image[::-1], *self.image[::-1]])
        if self.options.clip:
            boxes = boxes.clamp(0, 1)
        variance = list(self.options.variance) or [0.1]
        variance = torch.tensor(variance * (4 // len(variance)), dtype=torch.float64)
        return torch.stack([boxes.flatten(), variance.expand_as(boxes).flatten()])[None]

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        self.boxes = self.boxes.to(device.current(), device.master_dtype())
        return self.boxes.clone()
