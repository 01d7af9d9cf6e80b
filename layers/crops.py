"""Choose the part of an image that a draw gives, and cut it to the size of the crop.

A draw is five numbers in [0, 1): mirror, top, left, size, shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import images

MIRROR, TOP, LEFT, SIZE, SHAPE = COLUMNS = range(5)


class Cutter:
    """Cuts records as the options of a SceneData layer say; `training` False: nothing random.

    out_size: (height, width) of what is cut.
    """

    def __init__(self, options: Any, training: bool, out_size: tuple[int, int]) -> None:
        self.training, self.out_size = training, out_size
        self.whole = not options.crop_size
        self.mirror = training and options.mirror
        self.pad = options.pad if training else 0
        self.short_sides = (options.short_side_min, options.short_side_max) if training else (0, 0)
        self.areas = (options.area_min, options.area_max) if training else (0, 0)
        self.aspect = math.log(options.aspect_max)
        self.scaled = bool(self.short_sides[0] or self.areas[0])
        self.reduced = options.reduced_decode and self.scaled

    def window(self, height: int, width: int, draw: Sequence[float]) -> tuple[int, int, int, int]:
        """The (top, left, height, width) that `draw` chooses in an image of `height` x `width`.

        With padding, top and left may be negative.
        """
        if self.areas[0]:
            tall, wide = self._of_area(height, width, draw)
        elif self.short_sides[0]:
            tall, wide = self._of_scale(min(height, width), draw)
        else:
            tall, wide = self.out_size
        if self.whole and (height, width) != self.out_size:
            raise ValueError(
                f"its size is {height} x {width} (height x width), that of the first "
                f"record {tall} x {wide}; resize all to one size, or give crop_size"
            )
        pad = self.pad
        room = (height + 2 * pad - tall, width + 2 * pad - wide)
        if min(room) < 0:
            raise ValueError(
                f"{height} x {width} (height x width) is smaller than the crop of {tall} x {wide}"
            )
        if not self.training:
            return room[0] // 2, room[1] // 2, tall, wide
        return (
            int(draw[TOP] * (room[0] + 1)) - pad,
            int(draw[LEFT] * (room[1] + 1)) - pad,
            tall,
            wide,
        )

    def _of_area(self, height: int, width: int, draw: Sequence[float]) -> tuple[int, int]:
        """A window with a drawn share of the area and a drawn aspect ratio, made to fit."""
        low, high = self.areas
        area = height * width * (low + draw[SIZE] * (high - low))
        aspect = math.exp((2 * draw[SHAPE] - 1) * self.aspect)  # width / height
        tall, wide = math.sqrt(area / aspect), math.sqrt(area * aspect)
        fit = min(1, height / tall, width / wide)
        return max(1, round(tall * fit)), max(1, round(wide * fit))

    def _of_scale(self, short: int, draw: Sequence[float]) -> tuple[int, ...]:
        """The window that becomes the crop after resizing the shorter side to a drawn size."""
        low, high = self.short_sides
        target = low + int(draw[SIZE] * (high - low + 1))
        return tuple(min(short, max(1, round(side * short / target))) for side in self.out_size)

    def encoded(
        self, data: bytes | memoryview, color: bool, draw: Sequence[float], out: np.ndarray
    ) -> tuple[bool, int, int]:
        """Cut an encoded image into `out` (h, w, C); returns the place (mirrored, top, left)."""
        reduction = self._reduction(data, draw) if self.reduced and color else 1
        image = images.open_image(data, color, reduction)
        if reduction == 1:
            window = self.window(*image.size, draw)
        else:  # the window of the whole image, in the smaller one
            scaled = self.window(*(side * reduction for side in image.size), draw)
            window = [side // reduction for side in scaled]
        mirrored = self.mirror and draw[MIRROR] < 0.5
        if self.pad:
            self._padded(image, *window[:2], mirrored, out)
        else:
            self._fit(image.part(*window), mirrored, out)
        return (mirrored, *window[:2])

    def planes(
        self, pixels: np.ndarray, draw: Sequence[float], out: np.ndarray
    ) -> tuple[bool, int, int]:
        """Cut raw pixels (C, H, W) into `out` (h, w, C); returns (mirrored, top, left)."""
        if len(pixels) != out.shape[2]:
            raise ValueError(f"it has {len(pixels)} channels, the first record {out.shape[2]}")
        top, left, tall, wide = self.window(*pixels.shape[1:], draw)
        mirrored = self.mirror and draw[MIRROR] < 0.5
        if self.pad:
            self._padded(images.Whole(pixels.transpose(1, 2, 0)), top, left, mirrored, out)
        else:
            cut = pixels[:, top : top + tall, left : left + wide]
            if (tall, wide) == self.out_size:
                images.put_planes(cut, mirrored, out)
            else:
                self._fit(cut.transpose(1, 2, 0), mirrored, out)
        return mirrored, top, left

    def _fit(self, cut: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        if cut.shape[:2] != self.out_size:
            cut = images.resize(cut, self.out_size)
        images.put(cut, mirrored, out)

    def _padded(
        self,
        image: images.Whole | images.Undecoded,
        top: int,
        left: int,
        mirrored: bool,
        out: np.ndarray,
    ) -> None:
        """The window of an image with zeros around it."""
        height, width = self.out_size
        above, before = max(-top, 0), max(-left, 0)
        bottom, right = (
            min(end, side) for end, side in zip((top + height, left + width), image.size)
        )
        cut = image.part(top + above, left + before, bottom - top - above, right - left - before)
        out[...] = 0
        if mirrored:
            before, cut = width - before - cut.shape[1], cut[:, ::-1]
        out[above : above + cut.shape[0], before : before + cut.shape[1]] = cut

    def _reduction(self, data: bytes | memoryview, draw: Sequence[float]) -> int:
        """The largest reduction at which the window still has the pixels of the crop."""
        size = images.jpeg_size(data)
        if size is None:
            return 1
        _, _, tall, wide = self.window(*size, draw)
        for reduction in images.REDUCTIONS:
            if tall >= reduction * self.out_size[0] and wide >= reduction * self.out_size[1]:
                return reduction
        return 1
