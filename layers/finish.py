"""From the uint8 pixels of a batch to the floats that a net reads: mean, colour shift, layout.

The same code runs on numpy arrays (an original Caffe) and on tensors (this engine, CPU or GPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Callable

import numpy as np

from caffe.proto import caffe_pb2

from . import draws
from .crops import Cutter
from .errors import SceneError
from .mean_file import read_mean
from .native.finish import open_finish

COLOR_SEED = 0x636F6C6F72  # keeps the colour draws apart from those of the crops


@cache
def _finish_images() -> Callable | None:
    """What does it in one pass in C, or None where its library cannot be had."""
    return open_finish()


class Finisher:
    """y = (x - mean + colour shift) * scale, and 0 where a crop reaches beyond the image.

    `floats(pixels)` and `place(array)` bring uint8 pixels, as floats, and constants to where the
    net computes; `host()` gives what hands over a numpy array where that is this memory, else
    None. A mean image of the size of the crop is subtracted as it is; one of the size of the
    records is cut and mirrored as they are.
    """

    seed: int = 0  # of the colour draws

    def __init__(
        self,
        options: Any,
        cutter: Cutter,
        record_shape: tuple[int, int, int],
        floats: Callable,
        place: Callable,
        host: Callable,
    ) -> None:
        self.options, self.cutter = options, cutter
        self.floats, self.place, self.host = floats, place, host
        self.height, self.width = cutter.out_size
        self.channels, self.record_size = record_shape[0], record_shape[1:]
        self.color = _read_color(options.color_file, self.channels) if cutter.training else None
        mean = _read_mean(options)
        self.cut_mean = False
        self._mean = None if mean is None else self._prepare(mean)
        self._placed = None  # the mean where the net computes

    def _prepare(self, mean: np.ndarray) -> np.ndarray:
        """The mean as what is subtracted from rows of width * channels values."""
        size = mean.shape[1:]
        if mean.shape[0] not in (1, self.channels) or (
            size not in ((1, 1), self.cutter.out_size, self.record_size)
        ):
            raise SceneError(
                f"the mean has (channels, height, width) {mean.shape}, the records "
                f"{(self.channels, *self.record_size)}, the crop {self.cutter.out_size}; give a "
                "mean_file of the size of the one or the other, or one mean_value per channel"
            )
        mean = np.broadcast_to(mean.transpose(1, 2, 0), (*size, self.channels))
        self.cut_mean = size not in ((1, 1), self.cutter.out_size)
        if self.cut_mean and self.cutter.scaled:
            raise SceneError(
                "a mean_file of the size of the records has no meaning where they are "
                f"resized: give one of the crop's size {self.cutter.out_size}, or "
                "mean_value"
            )
        if size == (1, 1):
            mean = np.broadcast_to(mean, (1, self.width, self.channels))
        if self.cut_mean:
            pad = self.cutter.pad
            mean = np.pad(mean, ((pad, pad), (pad, pad), (0, 0)), "constant")
            mean = np.stack([mean, mean[:, ::-1]])
        rows = np.ascontiguousarray(mean, np.float32)
        return rows.reshape(*rows.shape[:-2], -1)

    def __call__(self, pixels: np.ndarray, places: np.ndarray, positions: np.ndarray) -> Any:
        """The floats (N, h, w, C) of pixels (N, h, w, C) that were cut at `places` (N, 3)."""
        shift = None
        if self.color is not None:
            shift = np.tile(self.color_shift(positions), (1, self.width)).astype(np.float32)
        hand_over = self.host()
        finish_images = _finish_images() if hand_over else None
        if finish_images:
            means = (self._mean_at(self._mean, place) for place in places.tolist())
            rows = hand_over(
                finish_images(
                    pixels.reshape(len(pixels), self.height, -1), means, shift, self.options.scale
                )
            )
        else:
            rows = self._finish(pixels, places, shift)
        if self.cutter.pad:
            rows *= self.place(self._inside(places))
        return rows.reshape(*pixels.shape)

    def _finish(self, pixels: np.ndarray, places: np.ndarray, shift: np.ndarray | None) -> Any:
        """Step by step, in rows (N, h, w * C), because long rows compute fast."""
        rows = self.floats(pixels).reshape(len(pixels), self.height, -1)
        if self._mean is not None and self._placed is None:
            self._placed = self.place(self._mean)
        if self.cut_mean:
            for row, place in zip(rows, places.tolist()):
                row -= self._mean_at(self._placed, place)
        elif self._mean is not None:
            rows -= self._placed
        if shift is not None:
            rows += self.place(shift[:, None])
        if self.options.scale != 1:
            rows *= self.options.scale
        return rows

    def color_shift(self, positions: np.ndarray) -> np.ndarray:
        """AlexNet's shift of each channel (N, 3): eigenvectors times eigenvalues times draws."""
        values, vectors = self.color
        alphas = self.options.color_deviation * draws.normal(
            self.seed ^ COLOR_SEED, positions, len(values)
        )
        return 255 * (alphas * values) @ vectors

    def _mean_at(self, mean: Any, place: Sequence[int]) -> Any:
        """The part of the mean that belongs to a crop at `place`, (1 or h, w * C)."""
        if not self.cut_mean:
            return mean
        pad, (mirrored, top, left) = self.cutter.pad, place
        left += pad
        if mirrored:
            left = self.record_size[1] + 2 * pad - self.width - left
        at = slice(left * self.channels, (left + self.width) * self.channels)
        return mean[mirrored, top + pad : top + pad + self.height, at]

    def _inside(self, places: np.ndarray) -> np.ndarray:
        """1 where a crop shows the image and 0 where its padding, (N, h, w * C)."""
        inside = []
        for side, full, start in (
            (self.height, self.record_size[0], places[:, 1]),
            (self.width, self.record_size[1], places[:, 2]),
        ):
            at = np.arange(side) + start[:, None]
            inside.append((at >= 0) & (at < full))
        rows, columns = inside
        columns = np.where(places[:, :1] == 1, columns[:, ::-1], columns)
        columns = np.repeat(columns, self.channels, axis=1)
        return (rows[:, :, None] & columns[:, None]).astype(np.float32)


def _read_mean(options: Any) -> np.ndarray | None:
    """The mean as (C, H, W) or (C, 1, 1), or None."""
    if options.mean_value:
        return np.array(options.mean_value, np.float32).reshape(-1, 1, 1)
    if not options.mean_file:
        return None
    return read_mean(caffe_pb2, options.mean_file)


def _read_color(path: str, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The eigenvalues (3,) and eigenvectors (3, 3), one a row, of a colour file, or None."""
    if not path:
        return None
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise SceneError(f"color_file {path}: {error}; make it with color_pca") from error
    if channels != 3 or rows.shape != (3, 4):
        raise SceneError(
            f"color_file {path}: expected records of 3 channels and a file of 3 rows, "
            f"eigenvalue and eigenvector each; found {channels} channels and "
            f"{rows.shape}"
        )
    return rows[:, 0], rows[:, 1:]
