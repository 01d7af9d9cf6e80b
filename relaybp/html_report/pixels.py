"""Arrays as the images of a page."""

from __future__ import annotations

import base64

import numpy as np

from ..evaluation.validation_set import resized
from ..pictures import png

SIDE = 128  # the shorter one of a photo, at most; smaller images show their pixels


def data_uri(pixels: np.ndarray) -> str:
    """uint8 pixels (H, W), (H, W, 3) or (H, W, 4) as the address of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def photo(rgb: np.ndarray) -> str:
    """An image (H, W, 3), large ones made smaller."""
    return data_uri(resized(rgb, SIDE) if min(rgb.shape[:2]) > SIDE else rgb)
