"""Which way up an image file says that it is, and the turn that makes its pixels upright."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Union

import numpy as np

Bytes = Union[bytes, memoryview]

UPRIGHT = 1
_TAG = 0x0112  # Orientation in EXIF
_EXIF = b"Exif\0\0"
_HEIF_HEAD = 1 << 16  # bytes within which an AVIF file describes itself
# what irot (quarter turns against the clock) and imir (None, 0: up and down, 1: sides) amount to
_HEIF = {
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, None): 6,
    (3, 0): 7,
    (1, None): 8,
    (2, 0): 2,
    (2, 1): 4,
    (3, 1): 5,
    (1, 1): 7,
}


def orientation(data: Bytes) -> int:
    """The orientation, 1 to 8 as EXIF counts, of the image file in the bytes `data`.

    1, upright, where the file says nothing. Knows JPEG, PNG, WebP and AVIF; OpenCV itself turns
    TIFF, always.
    """
    head = bytes(data[:12])
    if head[4:8] == b"ftyp":
        return _of_heif(bytes(data[:_HEIF_HEAD]))
    exif = b""
    if head[:2] == b"\xff\xd8":
        exif = next(_jpeg_exif(data), b"")
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        exif = _chunk(data, 8, ">I4s", b"eXIf")
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        exif = _chunk(data, 12, "<4sI", b"EXIF")
    return _of_exif(exif[6:] if exif.startswith(_EXIF) else exif)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W) or (H, W, C) of a file of that orientation, upright."""
    if orientation == UPRIGHT:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)  # (W, H) or (W, H, C)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def _jpeg_exif(data: Bytes) -> Iterator[bytes]:
    """Yield the EXIF blocks of a JPEG."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA):
        if data[at + 1] == 0xFF:  # a byte that fills
            at += 1
            continue
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if data[at + 1] == 0xE1 and bytes(data[at + 4 : at + 10]) == _EXIF:
            yield bytes(data[at + 4 : end])
        at = end


def _chunk(data: Bytes, at: int, header: str, wanted: bytes) -> bytes:
    """The first chunk of that name in a PNG or WebP file whose chunks begin at `at`."""
    png = header[0] == ">"
    while at + 8 <= len(data):
        first, second = struct.unpack_from(header, data, at)
        size, name = (first, second) if png else (second, first)
        if name == wanted:
            return bytes(data[at + 8 : at + 8 + size])
        at += 8 + size + (4 if png else size % 2)  # a checksum, or to an even place
    return b""


def _of_exif(block: bytes) -> int:
    order = "<" if block[:2] == b"II" else ">"  # as OpenCV, whatever else is there
    try:
        mark, at = struct.unpack_from(order + "HI", block, 2)
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12) if mark == 42 else ():
            tag, value = struct.unpack_from(order + "H6xH", block, entry)
            if tag == _TAG:
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:  # a block that is cut off
        pass
    return UPRIGHT


def _of_heif(head: bytes) -> int:
    turns, mirror = head.find(b"irot"), head.find(b"imir")
    angle = head[turns + 4] & 3 if 0 <= turns < len(head) - 4 else 0
    axis = head[mirror + 4] & 1 if 0 <= mirror < len(head) - 4 else None
    return _HEIF[angle, axis]
