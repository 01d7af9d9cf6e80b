"""Arrays as pictures: their values as brightness or colour, tiles in a sheet, and PNG files.

Needs no image library.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # of a PNG, by channels
HEAT = np.array([(13, 8, 60), (140, 30, 110), (235, 105, 50), (252, 235, 160)], float)
GAP = 1  # pixels between the tiles of a sheet


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (H, W) in grey, (H, W, 3) in RGB or (H, W, 4) with opacity, uint8."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    kind = COLOUR_TYPES[rows.shape[1] // width]
    unfiltered = np.hstack([np.zeros((height, 1), np.uint8), rows])
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    data = zlib.compress(unfiltered.tobytes(), 9)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


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


def tiles(values: np.ndarray, is_rgb: bool) -> np.ndarray:
    """Filters or images (N, C, H, W) as RGB (N, H, W, 3), each from its least value to its most.

    Three channels are colours, in RGB order or else in BGR; of another number their mean is shown.
    """
    if values.shape[1] == 3:
        found = values.transpose(0, 2, 3, 1)[..., :: 1 if is_rgb else -1]
    else:
        found = np.repeat(values.mean(1)[..., None], 3, -1)
    return np.stack([grey(spanned(tile)) for tile in found])


def sheet(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (N, H, W, 3) of uint8 in rows of `columns`, with clear gaps: (height, width, 4)."""
    count, height, width, _ = tiles.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    shape = rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4
    found = np.zeros(shape, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (height + GAP) * (number // columns), (width + GAP) * (number % columns)
        found[top : top + height, left : left + width, :3] = tile
        found[top : top + height, left : left + width, 3] = 255
    return found
