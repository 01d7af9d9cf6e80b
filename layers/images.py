"""Images for the data layer, with OpenCV where there is one, else with Pillow. Pixels are BGR."""

from __future__ import annotations

from functools import cache

import numpy as np

from caffe_plain.images import decode as decode_whole
from caffe_plain.images import has_end

from .native.jpeg import PartialDecoder, open_decoder

try:
    import cv2

    cv2.setNumThreads(1)  # the workers are many
except ImportError:  # as beside an original Caffe
    cv2 = None
    from PIL import Image

REDUCTIONS = (8, 4, 2)  # of the scale at which a JPEG can be decoded for less
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that state the size


@cache
def _decoder() -> PartialDecoder | None:
    """The process's decoder of windows, or None where its library cannot be had."""
    return open_decoder()


class Whole:
    """An image that is decoded: (H, W, C) pixels."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.size = pixels, pixels.shape[:2]

    def part(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.pixels[top : top + height, left : left + width]


class Undecoded:
    """A JPEG image of which one part will be decoded."""

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        self.size, self._channels = size, channels

    def part(self, *window: int) -> np.ndarray:
        """The pixels of (top, left, height, width), good until another image is opened."""
        return _decoder().cut(window, self._channels)


def open_image(
    data: bytes | memoryview, color: bool = True, reduction: int = 1
) -> Whole | Undecoded:
    """The image file in the bytes `data`, as Whole or Undecoded; arguments as of `decode`."""
    _check_end(data)
    decoder = _decoder() if reduction == 1 else None
    size = decoder.begin(data) if decoder else None
    return Undecoded(size, 3 if color else 1) if size else Whole(decode(data, color, reduction))


def decode(data: bytes | memoryview, color: bool = True, reduction: int = 1) -> np.ndarray:
    """The image file in the bytes `data` as (H, W, C), C = 3 or 1; ValueError if it is not one.

    As it is stored: like Caffe's Data layer, this takes no notice of a photo's orientation.
    reduction: 1, 2, 4 or 8; the scale of a JPEG is divided by it, others stay as they are.
    """
    _check_end(data)
    image = decode_whole(data, color, reduction=reduction)
    return image if image.ndim == 3 else image[:, :, np.newaxis]


def _check_end(data: bytes | memoryview) -> None:
    """Of a part, damage below it would not show; so a JPEG must reach its end."""
    if not has_end(data):
        raise ValueError(f"a JPEG image without its end ({len(data)} bytes)")


def jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """(height, width) as the header of a JPEG states them; None for other files."""
    at = 2
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            return data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


if cv2:

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W, C) at size = (height, width): linear, averaged when halved or smaller."""
        averaged = image.shape[0] >= 2 * size[0] and image.shape[1] >= 2 * size[1]
        method = cv2.INTER_AREA if averaged else cv2.INTER_LINEAR
        return cv2.resize(image, size[::-1], interpolation=method).reshape(*size, image.shape[2])

    def put(image: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        """Write (H, W, C) pixels into `out`, maybe mirrored."""
        if mirrored:
            cv2.flip(image, 1, out)
        else:
            out[...] = image

    def put_planes(planes: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        """Write (C, H, W) pixels into `out` (H, W, C), maybe mirrored."""
        if len(planes) > 4:
            out[...] = planes.transpose(1, 2, 0)[:, :: -1 if mirrored else 1]
            return
        cv2.merge(list(planes), out)
        if mirrored:
            cv2.flip(out, 1, out)
else:

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W, C) at size = (height, width), linear."""
        planes = [
            np.asarray(Image.fromarray(plane).resize(size[::-1], Image.BILINEAR))
            for plane in np.ascontiguousarray(image.transpose(2, 0, 1))
        ]
        return np.stack(planes, axis=2)

    def put(image: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        """Write (H, W, C) pixels into `out`, maybe mirrored."""
        out[...] = image[:, :: -1 if mirrored else 1]

    def put_planes(planes: np.ndarray, mirrored: bool, out: np.ndarray) -> None:
        """Write (C, H, W) pixels into `out` (H, W, C), maybe mirrored."""
        put(planes.transpose(1, 2, 0), mirrored, out)
