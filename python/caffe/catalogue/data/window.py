"""WindowData: crops of images around listed windows, as R-CNN trains on."""

import warnings
from typing import NamedTuple

import cv2
import numpy as np
import torch

from caffe_plain.errors import DataError

from ... import device
from ...layer import register
from .image import read_image, read_lines
from .prefetch import PrefetchedSource
from .source import precision_of
from .transform import DataTransformer


class Window(NamedTuple):
    """One line of the window file; the corners belong to the window."""

    path: str
    label: int
    corners: tuple  # x1, y1, x2, y2


@register
class WindowData(PrefetchedSource):
    """Windows of images, drawn at random: foreground and background in a fixed proportion.

    tops: data (batch_size, C, crop_size, crop_size), and labels (batch_size,) if there is a
    second one; first the background windows (label 0), then floor(batch_size fg_fraction)
    foreground ones. A window is foreground from an overlap of fg_threshold on, background below
    bg_threshold. It is warped to crop_size, or with crop_mode "square" its tightest square, so that
    context_pad pixels of its surroundings are on each side; outside the image the pixels are 0.
    Options: window_data_param, whose own scale counts, and of transform_param crop_size, mirror,
    mean_file and mean_value. Caffe's WindowDataLayer.
    """

    top_count = (1, 2)
    param_name = "window_data_param"

    def setup(self, *shapes):
        options, crop = self.options, self.layer_param.transform_param.crop_size
        if not options.source or options.batch_size < 1:
            raise self.error("source (the window file) and batch_size must be given")
        if crop <= 2 * options.context_pad:
            raise self.error(
                f"transform_param.crop_size must be given, more than twice "
                f"context_pad {options.context_pad}; found {crop}"
            )
        if not 0 <= options.fg_fraction <= 1:
            raise self.error(f"fg_fraction must be from 0 to 1; found {options.fg_fraction}")
        if options.crop_mode not in ("warp", "square"):
            raise self.error(f'crop_mode must be "warp" or "square"; found {options.crop_mode!r}')
        if self.layer_param.transform_param.scale != 1:
            warnings.warn(
                f"layer {self.name!r} (WindowData): transform_param.scale has no effect, "
                "as in Caffe; give window_data_param.scale",
                stacklevel=2,
            )
        self.reader = _WindowReader(self)


class _WindowReader:
    """Draws windows and cuts them out."""

    def __init__(self, layer):
        self.where = f"layer {layer.name!r} (WindowData)"
        self.options, self.transform = layer.options, layer.layer_param.transform_param
        self.mean = DataTransformer(layer).mean
        self.seed, (self.rank, self.step) = layer.seed, layer.share
        self.groups, channels = self._read_windows(read_lines(layer, self.options.source))
        self.counts = [0, int(self.options.batch_size * self.options.fg_fraction)]
        self.counts[0] = self.options.batch_size - self.counts[1]
        for group, count, kind in zip(
            self.groups, self.counts, ("background", "foreground"), strict=True
        ):
            if count and not group:
                raise DataError(
                    f"{self.where}: {self.options.source} has no {kind} window; change "
                    "fg_threshold, bg_threshold or fg_fraction"
                )
        crop = self.transform.crop_size
        self.shapes = [(self.options.batch_size, channels, crop, crop), (self.options.batch_size,)]
        self._check_mean(channels)
        self.images = {}  # path -> image, with cache_images

    def _check_mean(self, channels):
        crop = self.transform.crop_size
        if self.mean is None or self.mean.shape in ((1, 1, 1), (channels, 1, 1)):
            return
        # NOTE: as in Caffe, the width's offset serves for both axes
        first = (self.mean.shape[2] - crop) // 2
        if self.mean.shape[0] != channels or first < 0 or self.mean.shape[1] < first + crop:
            raise DataError(
                f"{self.where}: the mean has shape {self.mean.shape}; {channels} "
                f"channels and at least {crop} x {crop} pixels are needed"
            )
        self.mean = self.mean[:, first : first + crop, first : first + crop]

    def _read_windows(self, lines):
        """[background windows, foreground windows], and the number of channels."""
        groups, lines, channels = ([], []), iter(lines), None
        for number, line in lines:
            try:
                if line.split()[0] != "#":
                    raise ValueError("expected '# image_index'")
                path = self.options.root_folder + next(lines)[1].strip()
                channels, _, _, count = (int(next(lines)[1]) for _ in range(4))
                for _ in range(count):
                    number, line = next(lines)
                    label, overlap, *corners = line.split()
                    self._sort(groups, path, int(label), float(overlap), tuple(map(int, corners)))
            except (ValueError, StopIteration) as error:
                raise DataError(
                    f"{self.where}: {self.options.source}, line {number} ({line!r}): "
                    f"{error or 'the file ends too early'}; for each image expected the lines: "
                    "# index, path, channels, height, width, number of windows, and for each "
                    "window: class overlap x1 y1 x2 y2"
                ) from None
        return groups, channels

    def _sort(self, groups, path, label, overlap, corners):
        if len(corners) != 4:
            raise ValueError(f"a window has 4 corners; found {len(corners)}")
        if overlap >= self.options.fg_threshold:
            if label < 1:
                raise ValueError(
                    f"the class of a foreground window must be 1 or more; found {label}"
                )
            groups[1].append(Window(path, label, corners))
        elif overlap < self.options.bg_threshold:
            groups[0].append(Window(path, 0, corners))

    def batches(self, position):
        while True:
            draws = np.random.default_rng([*self.seed, position, self.rank])
            position += self.options.batch_size * self.step
            pixels, labels = np.zeros(self.shapes[0], np.float32), []
            for group, count in zip(self.groups, self.counts, strict=True):
                for _ in range(count):
                    window = group[draws.integers(len(group))]
                    mirrored = self.transform.mirror and draws.integers(2) == 1
                    self._cut(window, mirrored, pixels[len(labels)])
                    labels.append(window.label)
            yield (
                (
                    device.staged(torch.from_numpy(pixels)),
                    torch.tensor(labels, dtype=torch.float32),
                ),
                position,
            )

    def _cut(self, window, mirrored, into):
        """Write the window into `into` (C, crop_size, crop_size), which holds zeros."""
        image = self._image(window.path)
        (x1, y1, x2, y2), (width, height), (left, top) = place(
            window.corners,
            image.shape[:2],
            self.transform.crop_size,
            self.options.context_pad,
            self.options.crop_mode == "square",
            mirrored,
        )
        if not (0 <= x1 <= x2 < image.shape[1] and 0 <= y1 <= y2 < image.shape[0]):
            raise DataError(
                f"{self.where}: window {window.corners} of {window.path} does not lie "
                f"in the image of height and width {image.shape[:2]}"
            )
        if width < 1 or height < 1:
            return
        pixels = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], (width, height))
        pixels = pixels[:, ::-1] if mirrored else pixels
        target = into[:, top : top + height, left : left + width]
        target[...] = pixels.transpose(2, 0, 1)
        if self.mean is not None:
            per_pixel = self.mean.shape[1:] != (1, 1)
            target -= (
                self.mean[:, top : top + height, left : left + width] if per_pixel else self.mean
            )
        target *= self.options.scale

    def _image(self, path):
        if path in self.images:
            return self.images[path]
        image = read_image(self.where, path, color=True)
        if self.options.cache_images:
            self.images[path] = image
        return image

    def finish(self, batch):
        pixels, labels = (device.upload(part) for part in batch)
        return [
            device.layout(pixels.to(precision_of(pixels.shape))),
            labels.to(device.master_dtype()),
        ]


def place(corners, size, crop, context_pad, square, mirrored):
    """Where a window is cut from an image of `size` (height, width), and where it goes.

    Returns the corners in the image; the (width, height) that they are warped to; and the (left,
    top) of the place in the (crop, crop) target that they go to.
    """
    x1, y1, x2, y2 = corners
    if not (context_pad or square):
        return corners, (crop, crop), (0, 0)
    scale = crop / (crop - 2 * context_pad)
    half = [(x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2]
    centre = (x1 + half[0], y1 + half[1])
    if square:
        half = [max(half)] * 2
    first, last, warped, offset = [], [], [], []
    for axis, limit in enumerate((size[1], size[0])):
        low = _round(centre[axis] - half[axis] * scale)
        high = _round(centre[axis] + half[axis] * scale)
        before, after = max(0, -low), max(0, high - limit + 1)
        factor = crop / (high - low + 1)
        first.append(low + before)
        last.append(high - after)
        length = _round((last[-1] - first[-1] + 1) * factor)
        # the padding is mirrored, too, from left to right
        pad = _round((after if mirrored and axis == 0 else before) * factor)
        warped.append(min(length, crop - pad))
        offset.append(pad)
    return (*first, *last), tuple(warped), tuple(offset)


def _round(value):
    """Halves away from zero, as C does."""
    return int(np.trunc(value + np.copysign(0.5, value)))
