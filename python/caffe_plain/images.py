"""Image files to pixels: the one way from a file to what the engine, layers and tools work on.

A file is read as bytes and decoded from memory, so that its name can be anything. The decoder is
OpenCV, or Pillow where there is none (beside an original Caffe).
"""

from __future__ import annotations

import io
import os
from typing import Union

import numpy as np

from .errors import DataError
from .orientation import UPRIGHT, orientation, turned

try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]
    from PIL import Image

Bytes = Union[bytes, memoryview]

_END = b"\xff\xd9"  # of a JPEG
DECODER = "OpenCV" if cv2 else "Pillow"
_CONVERT = ": convert it to JPEG or PNG"
_KINDS = (  # where in the file, what stands there, what the file is then
    (4, b"ftyphei", "a HEIC photo" + _CONVERT),
    (4, b"ftyphev", "a HEIC photo" + _CONVERT),
    (4, b"ftypmif", "a HEIF photo" + _CONVERT),
    (4, b"ftypavi", "an AVIF image" + _CONVERT),
    (4, b"ftyp", "a film: take frames of it"),
    (0, b"\xff\x0a", "a JPEG XL image" + _CONVERT),
    (4, b"JXL ", "a JPEG XL image" + _CONVERT),
    (0, b"GIF8", "a GIF image" + _CONVERT),
    (0, b"8BPS", "a Photoshop document" + _CONVERT),
    (0, b"%PDF", "a PDF document" + _CONVERT),
    (0, b"<", "text in HTML, XML or SVG: download or export the image itself"),
    (0, b"version https://git-lfs", "a pointer of Git LFS: fetch the file it stands for"),
)


def load(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """The upright pixels of the image file `path`, as `decode` returns them.

    Of a JPEG that is cut off, what there is.
    DataError names the file and says why there are none.
    """
    try:
        with open(path, "rb") as file:
            return decode(with_end(file.read()), color, upright=True)
    except OSError as error:
        raise DataError(f"{printable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{printable(path)}: {error}") from error


def decode(
    data: Bytes, color: bool | None = True, upright: bool = False, reduction: int = 1
) -> np.ndarray:
    """The pixels of the image file in the bytes `data`: (H, W, C) in BGR order, or (H, W).

    color: True makes three channels of 8 bits, False one; None keeps the file's own channels and
    depth. upright: turn them as the file's orientation says. reduction: 1, 2, 4 or 8; the scale of
    a JPEG is divided by it, others stay as they are. ValueError says why there are none.
    """
    pixels = _decode(data, color, reduction) if len(data) else None
    if pixels is None:
        raise ValueError(f"not an image that {DECODER} can decode ({len(data)} bytes{_kind(data)})")
    return turned(pixels, orientation(data)) if upright else pixels


def is_turned(data: Bytes) -> bool:
    """Whether the image file says that its pixels are not upright."""
    return orientation(data) != UPRIGHT


def has_end(data: Bytes) -> bool:
    """Whether a JPEG image reaches its end marker, whatever follows it; True for other files.

    Phones append films and depth maps, some writers a few bytes.
    """
    if bytes(data[:2]) != b"\xff\xd8" or _END in bytes(data[-64:]):
        return True
    whole = bytes(data)
    scan = _first_scan(whole)  # a thumbnail before it has an end of its own
    return scan > 0 and whole.find(_END, scan) > 0


def with_end(data: bytes) -> bytes:
    """`data`, and an end marker if it is a JPEG without one.

    OpenCV decodes such a file as far as it goes, but such bytes in memory not at all.
    """
    return data if has_end(data) else data + _END


def printable(name: str | bytes | os.PathLike) -> str:
    """A file name that any terminal and log takes: what is not UTF-8 in it shows as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _first_scan(data: bytes) -> int:
    """Where the pixels of a JPEG begin, or 0."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return at
        at += 1 if data[at + 1] == 0xFF else 2 + (data[at + 2] << 8 | data[at + 3])
    return 0


def _kind(data: Bytes) -> str:
    head = bytes(data[:32])
    for at, start, name in _KINDS:
        if head[at:].startswith(start):
            return f", {name}"
    return ""


if cv2:
    _COLOR = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }

    def _decode(data: Bytes, color: bool | None, reduction: int) -> np.ndarray | None:
        if color is None:
            flags = cv2.IMREAD_UNCHANGED
        else:
            flags = _COLOR[reduction] if color else cv2.IMREAD_GRAYSCALE
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:  # more pixels than OpenCV takes
            return None
else:

    def _decode(data: Bytes, color: bool | None, reduction: int) -> np.ndarray | None:
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
            if reduction > 1:
                width, height = image.size
                image.draft(None, (-(-width // reduction), -(-height // reduction)))
            if color is not None or image.mode not in ("RGB", "L"):
                image = image.convert("L" if color is False else "RGB")
            pixels = np.asarray(image)
        except Exception:  # Pillow raises whatever its decoders stumble over
            return None
        return pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
