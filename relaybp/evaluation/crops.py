"""The parts of an image that tests with several crops look at. Images are (H, W, C)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import numpy as np

from ..errors import RelayError
from .protocol import CENTRAL, CROP, CROPS_144, TEN_CROP
from .validation_set import resized, stretched

Cut = Callable[[np.ndarray, int], list[np.ndarray]]
CENTRAL_SHARE = 0.875  # of each side
GOOGLENET_CROP, GOOGLENET_SIDES = 224, (256, 288, 320, 352)


def centre(image: np.ndarray, side: int) -> list[np.ndarray]:
    """The centre crop, where Caffe's data layers cut it; of a net without crops the image."""
    if not side:
        return [image]
    height, width = _size(image, side)
    return [_at(image, (height - side) // 2, (width - side) // 2, side)]


def ten(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Of the central square: the corners and the centre, then their mirror images."""
    (square,) = centre(image, min(_size(image, side)))
    return _mirrored(_corners_and_centre(square, side))


def central(image: np.ndarray, side: int) -> list[np.ndarray]:
    """The central region with CENTRAL_SHARE of both sides, resized to a square."""
    top, left = (int((length - length * CENTRAL_SHARE) / 2) for length in image.shape[:2])
    region = image[top : image.shape[0] - top, left : image.shape[1] - left]
    return [stretched(region, side, side)]


def googlenet(image: np.ndarray, side: int) -> list[np.ndarray]:
    """GoogLeNet's 144: at four sizes three squares, of each six crops and their mirror images."""
    found = []
    for shorter in GOOGLENET_SIDES:
        scaled = resized(image, round(shorter * side / GOOGLENET_CROP))
        for square in _squares(scaled):
            found += _corners_and_centre(square, side) + [stretched(square, side, side)]
    return _mirrored(found)


CUTS: dict[str, Cut] = {CROP: centre, TEN_CROP: ten, CENTRAL: central, CROPS_144: googlenet}


def _squares(image: np.ndarray) -> Iterator[np.ndarray]:
    """The squares at the beginning, the middle and the end of the longer side."""
    height, width = image.shape[:2]
    side = min(height, width)
    for part in range(3):
        yield _at(image, (height - side) * part // 2, (width - side) * part // 2, side)


def _corners_and_centre(square: np.ndarray, side: int) -> list[np.ndarray]:
    room = len(square) - side
    places = ((0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2))
    return [_at(square, top, left, side) for top, left in places]


def _mirrored(crops: list[np.ndarray]) -> list[np.ndarray]:
    return crops + [crop[:, ::-1] for crop in crops]


def _at(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return image[top : top + side, left : left + side]


def _size(image: np.ndarray, side: int) -> tuple[int, int]:
    """(height, width) of an image that must hold a crop."""
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise RelayError(
            f"an image of {height} x {width} pixels is smaller than the crop of {side} x {side}: "
            "prepare larger images, or take a protocol that resizes them"
        )
    return height, width
