"""Images as a net takes them: without their mean, and scaled."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import RelayError
from ..layers.mean_file import read_mean
from .validation_set import Feed, stretched

SIZES = 16  # for which a mean image is kept


class Normaliser:
    """Subtracts a Feed's mean from images (H, W, C), then multiplies by its scale.

    A mean image is subtracted as it is from an image of its size. For any other size it is resized
    like the image, so that each pixel loses the mean of the place that it shows. pb: caffe_pb2.
    """

    def __init__(self, pb: Any, feed: Feed) -> None:
        self.factor = np.float32(feed.scale)
        self.mean = np.array(feed.mean_values or (0.0,), np.float32).reshape(1, 1, -1)
        if feed.mean_file:
            self.mean = np.ascontiguousarray(read_mean(pb, feed.mean_file).transpose(1, 2, 0))
        self._at_size = lru_cache(SIZES)(lambda size: stretched(self.mean, *size))

    def fits(self, height: int, width: int) -> bool:
        """Whether there is a mean for every pixel of an image of that size, or one for all."""
        return self.mean.shape[:2] in ((height, width), (1, 1))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The floats (H, W, C) of an image (H, W, C)."""
        if self.mean.shape[2] not in (1, image.shape[2]):
            raise RelayError(
                f"a mean of {self.mean.shape[2]} channels for images of {image.shape[2]}: make the "
                "mean of images like these, or give the Data layer transform_param "
                "{ force_color: true }"
            )
        size = image.shape[:2]
        mean = self.mean if self.fits(*size) else self._at_size(size)
        return (image - mean) * self.factor
