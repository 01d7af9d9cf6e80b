"""Arrays as the images of a page."""

from __future__ import annotations

import base64

import numpy as np

from ..evaluation.validation_set import resized
from ..png import png

SIDE = 128  # the shorter one of a photo, at most; smaller images show their pixels
GAP = 1  # pixels between the tiles of a grid
HEAT = np.array([(13, 8, 60), (140, 30, 110), (235, 105, 50), (252, 235, 160)], float)


def data_uri(pixels: np.ndarray) -> str:
    """uint8 pixels (H, W), (H, W, 3) or (H, W, 4) as the address of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def photo(rgb: np.ndarray) -> str:
    """An image (H, W, 3), large ones made smaller."""
    return data_uri(resized(rgb, SIDE) if min(rgb.shape[:2]) > SIDE else rgb)


def spanned(values: np.ndarray) -> np.ndarray:
    """Any values as 0 (the least) to 1 (the greatest)."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / ((high - low) or 1.0)


def grey(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as uint8."""
    return np.round(255 * values).astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """Values (H, W) from 0 to 1 as RGB (H, W, 3), dark to bright."""
    places = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, places, column) for column in HEAT.T], -1).astype(np.uint8)


def grid(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (N, H, W, 3) of uint8 in rows of `columns`, with clear gaps: (height, width, 4)."""
    count, height, width, _ = tiles.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (height + GAP) * (number // columns), (width + GAP) * (number % columns)
        sheet[top : top + height, left : left + width, :3] = tile
        sheet[top : top + height, left : left + width, 3] = 255
    return sheet
