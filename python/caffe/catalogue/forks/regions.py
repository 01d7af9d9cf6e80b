"""Pooling of regions: ROIPooling, PSROIPooling, ROIAlign."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from .rectangles import maxima

_ROIS_AT_ONCE = 32  # whose partial sums are in memory together


class _RegionLayer(TensorLayer):
    """Features and regions of interest in; each region pooled into a grid of bins.

    The regions, bottom 1, are rows (image, x1, y1, x2, y2) in pixels of the input image and get no
    gradient.
    """

    bottom_count = (2, 2)
    replays = False

    def check_bottoms(self, features: Shape, rois: Shape) -> None:
        """Raise unless the bottoms are (N, C, H, W) and (R, 5) or (R, 5, 1, 1)."""
        if len(features) != 4 or len(rois) < 2 or tuple(rois[1:]) not in ((5,), (5, 1, 1)):
            raise self.shape_error(
                "needs features (N, C, H, W) and regions (R, 5), the image and its x1, y1, x2, y2; "
                f"found {tuple(features)} and {tuple(rois)}"
            )

    def read_rois(self, rois: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """The image of each region, (R,), and its corners, (R, 4), in full precision."""
        rois = rois.reshape(len(rois), 5).to(device.master_dtype())
        index = rois[:, 0].long()
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < images:
            raise self.error(
                f"bottom 1: regions of images {int(index.min())} to {int(index.max())}; bottom 0 "
                f"holds {images} images, counted from 0"
            )
        return index, rois[:, 1:]


def _round(x: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero, as in C."""
    return torch.where(x < 0, (x - 0.5).ceil(), (x + 0.5).floor())


@register
class ROIPooling(_RegionLayer):
    """The maximum of each bin of each region.

    bottom 0: (N, C, H, W); bottom 1: regions, (R, 5); top: (R, C, pooled_h, pooled_w). Corners
    times spatial_scale are rounded; a bin that lies outside the features is 0. With MS-CNN's
    pad_ratio a region is first made larger by that share of its size on each side. Options:
    roi_pooling_param. Girshick, 2015.
    """

    param_name = "roi_pooling_param"
    fork_fields = ("pooled_size", "pad_ratio")

    def setup(self, *shapes: Shape) -> None:
        options, size = self.options, list(self.options.pooled_size)
        if len(size) > 2 or (size and (options.pooled_h or options.pooled_w)):
            raise self.error("give pooled_h and pooled_w, or one or two pooled_size")
        size = size or [options.pooled_h, options.pooled_w]
        self.pooled = (size[0], size[-1])
        check_positive(
            self.error, pooled_size=self.pooled, spatial_scale=(self.options.spatial_scale,)
        )

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.check_bottoms(*shapes)
        return [(shapes[1][0], shapes[0][1], *self.pooled)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        return device.layout(self._largest(x, rois, want_places=False)[0])

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if not wanted[0]:
            return [None, None]
        x, rois = bottoms
        images, channels, height, width = x.shape
        _, places = self._largest(x, rois, want_places=True)
        places, dy = (part.permute(0, 2, 3, 1).reshape(-1, channels) for part in (places, diffs[0]))
        dx = dy.new_zeros(images * height * width, channels)
        dx.scatter_add_(0, places.clamp(min=0).long(), dy * (places >= 0))
        return [device.layout(dx.view(images, height, width, channels).permute(0, 3, 1, 2)), None]

    def _largest(self, x: Tensor, rois: Tensor, want_places: bool) -> list[Tensor]:
        """The maximum of each bin and the pixel it is in, each like the top."""
        index, corners = self.read_rois(rois, len(x))
        padding = (corners[:, 2:] - corners[:, :2] + 1) * self.options.pad_ratio
        corners = corners + torch.cat([-padding, padding], 1)
        low, high = _round(corners * self.options.spatial_scale).unflatten(1, (2, 2)).unbind(1)
        size, shape = (high - low + 1).clamp(min=1), (len(rois), *self.pooled)
        rows = self._bins(low[:, 1], size[:, 1], self.pooled[0], x.shape[2])
        columns = self._bins(low[:, 0], size[:, 0], self.pooled[1], x.shape[3])
        sides = [side[:, :, None] for side in rows] + [side[:, None, :] for side in columns]
        index, *sides = (side.expand(shape).flatten() for side in (index[:, None, None], *sides))
        found = maxima(x, index, sides, want_places)
        return [part.view(*shape, x.shape[1]).permute(0, 3, 1, 2) for part in found]

    @staticmethod
    def _bins(start: Tensor, size: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor]:
        """First and last row (or column) + 1 of `count` bins, (R, count) each."""
        bins = torch.arange(count, device=start.device, dtype=start.dtype)
        step = (size / count)[:, None]
        low = (bins * step).floor() + start[:, None]
        high = ((bins + 1) * step).ceil() + start[:, None]
        return low.clamp(0, limit).long(), high.clamp(0, limit).long()


class _WeightedRegions(_RegionLayer):
    """A value is a weighted sum of pixels, whose weights are products of one for row and column.

    A derived class gives the weights: `_weights(corners, size)`, (R, bins, size) for one axis.
    """

    reads_bottom = False

    def _axes(self, corners: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The weights of rows, (R, bins, H), and of columns, (R, bins, W)."""
        y = self._weights(corners[:, 1], corners[:, 3], shape[2], 0)
        return y.to(dtype), self._weights(corners[:, 0], corners[:, 2], shape[3], 1).to(dtype)


@register
class ROIAlign(_WeightedRegions):
    """The mean of bilinear samples in each bin of each region.

    bottom 0: (N, C, H, W); bottom 1: regions, (R, 5); top: (R, C, pooled_h, pooled_w). Corners
    times spatial_scale are not rounded, a region is at least 1 pixel wide and high; a bin has
    sampling_ratio samples each way, or as many as it has pixels, rounded up. Samples more than a
    pixel outside are 0. Options: roi_align_param. He et al., 2017.
    """

    param_name = "roi_align_param"

    def setup(self, *shapes: Shape) -> None:
        self.pooled = (self.options.pooled_h, self.options.pooled_w)
        check_positive(
            self.error, pooled_size=self.pooled, spatial_scale=(self.options.spatial_scale,)
        )

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.check_bottoms(*shapes)
        self.shape = tuple(shapes[0])
        return [(shapes[1][0], shapes[0][1], *self.pooled)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        self.index, corners = self.read_rois(rois, len(x))
        self.rows, self.columns = self._axes(corners, x.shape, x.dtype)
        y = x.new_zeros(len(rois), *self.pooled, x.shape[1])
        for image, mine in self._parts():
            pixels = x[image].permute(1, 2, 0)  # (H, W, C)
            rows = self.rows[mine].flatten(0, 1) @ pixels.flatten(1)  # (r pooled_h, W C)
            rows = rows.view(len(mine), self.pooled[0], *pixels.shape[1:])
            y[mine] = self.columns[mine][:, None] @ rows  # (r, pooled_h, pooled_w, C)
        return device.layout(y.permute(0, 3, 1, 2))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if not wanted[0]:
            return [None, None]
        images, channels, height, width = self.shape
        dx, dy = diffs[0].new_zeros(images, height, width * channels), diffs[0].permute(0, 2, 3, 1)
        for image, mine in self._parts():
            rows = self.columns[mine][:, None].mT @ dy[mine]  # (r, pooled_h, W, C)
            dx[image] += self.rows[mine].flatten(0, 1).T @ rows.flatten(2).flatten(0, 1)
        return [device.layout(dx.unflatten(2, (width, channels)).permute(0, 3, 1, 2)), None]

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        """An image and a few of its regions at a time."""
        for image in range(self.shape[0]):
            mine = (self.index == image).nonzero()[:, 0]
            for some in mine.split(_ROIS_AT_ONCE) if len(mine) else ():
                yield image, some

    def _weights(self, low: Tensor, high: Tensor, size: int, axis: int) -> Tensor:
        low, high = low * self.options.spatial_scale, high * self.options.spatial_scale
        length, bins = (high - low).clamp(min=1), self.pooled[axis]
        ratio = self.options.sampling_ratio
        counts = torch.full_like(length, ratio) if ratio > 0 else (length / bins).ceil()
        found = low.new_zeros(len(low), bins, size)
        at = torch.arange(bins, device=low.device, dtype=low.dtype)
        for sample in range(int(counts.max()) if len(low) else 0):
            place = (
                low[:, None] + (at + ((sample + 0.5) / counts)[:, None]) * (length / bins)[:, None]
            )
            share = ((sample < counts) / counts)[:, None, None]
            found += _tents(place, size) * share
        return found


def _tents(place: Tensor, size: int) -> Tensor:
    """The weights of samples at `place` (...) along an axis of `size` pixels, (..., size)."""
    inside = (place >= -1) & (place <= size)
    place = place.clamp(0, size - 1)[..., None]
    pixels = torch.arange(size, device=place.device, dtype=place.dtype)
    return (1 - (place - pixels).abs()).clamp(min=0) * inside[..., None]


@register
class PSROIPooling(_WeightedRegions):
    """The mean of each bin of each region, each bin from channels of its own.

    bottom 0: (N, output_dim group_size^2, H, W); bottom 1: regions, (R, 5); top: (R, output_dim,
    group_size, group_size). Bin (i, j) of output c is from channel (c group_size + i) group_size +
    j; one outside the features is 0. Options: psroi_pooling_param. R-FCN; Dai et al., 2016.
    """

    param_name = "psroi_pooling_param"

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        check_positive(
            self.error,
            output_dim=(options.output_dim,),
            group_size=(options.group_size,),
            spatial_scale=(options.spatial_scale,),
        )

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.check_bottoms(*shapes)
        group, outputs, self.shape = self.options.group_size, self.options.output_dim, shapes[0]
        if shapes[0][1] != outputs * group**2:
            raise self.shape_error(
                f"output_dim {outputs} and group_size {group} need {outputs * group**2} channels; "
                f"bottom 0 has shape {tuple(shapes[0])}"
            )
        return [(shapes[1][0], outputs, group, group)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        self.index, corners = self.read_rois(rois, len(x))
        self.rows, self.columns = self._axes(corners, x.shape, x.dtype)
        group = self.options.group_size
        x = x.unflatten(1, (self.options.output_dim, group, group))
        y = x.new_zeros(len(rois), self.options.output_dim, group, group)
        for image in range(len(x)):
            mine = (self.index == image).nonzero()[:, 0]
            columns = torch.einsum("cijhw,rjw->rcijh", x[image], self.columns[mine])
            y[mine] = torch.einsum("rcijh,rih->rcij", columns, self.rows[mine])
        return device.layout(y)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if not wanted[0]:
            return [None, None]
        images, channels, height, width = self.shape
        group, dy = self.options.group_size, diffs[0]
        dx = dy.new_zeros(images, channels // group**2, group, group, height, width)
        for image in range(images):
            mine = (self.index == image).nonzero()[:, 0]
            columns = torch.einsum("rcij,rih->rcijh", dy[mine], self.rows[mine])
            dx[image] = torch.einsum("rcijh,rjw->cijhw", columns, self.columns[mine])
        return [device.layout(dx.flatten(1, 3)), None]

    def _weights(self, low: Tensor, high: Tensor, size: int, axis: int) -> Tensor:
        bins, scale = self.options.group_size, self.options.spatial_scale
        low = _round(low) * scale
        step = ((_round(high) + 1) * scale - low).clamp(min=0.1) / bins
        at = torch.arange(bins, device=low.device, dtype=low.dtype)
        first = (at * step[:, None] + low[:, None]).floor().clamp(0, size)[..., None]
        last = ((at + 1) * step[:, None] + low[:, None]).ceil().clamp(0, size)[..., None]
        pixels = torch.arange(size, device=low.device, dtype=low.dtype)
        inside = (pixels >= first) & (pixels < last)
        return inside / (last - first).clamp(min=1)
