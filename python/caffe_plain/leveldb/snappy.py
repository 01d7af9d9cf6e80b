"""Snappy, the compression of LevelDB's blocks, undone in plain Python, or by cramjam if installed.

Blocks of images are seldom compressed: LevelDB keeps what does not shrink by an eighth as it is.
"""

from __future__ import annotations

from .format import Bytes, varint

try:
    import cramjam  # for speed alone
except ImportError:
    cramjam = None

_LITERAL, _COPY_1, _COPY_2 = 0, 1, 2


def decompress(data: Bytes) -> bytes:
    """The bytes that were compressed to `data`; ValueError if it is damaged."""
    if cramjam is None:
        return _decompress(bytes(data))
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise ValueError(str(error)) from error


def _decompress(data: bytes) -> bytes:
    out = bytearray()
    try:
        size, at = varint(data, 0)
        while at < len(data):
            tag = data[at]
            if tag & 3 == _LITERAL:
                at, length = _literal(data, at)
                out += data[at : at + length]
                at += length
            else:
                at, length, distance = _copy(data, at)
                _repeat(out, length, distance)
    except IndexError:
        raise ValueError("it ends in the middle of an element") from None
    if len(out) != size or at != len(data):
        raise ValueError(f"expected {size} bytes, found {len(out)}")
    return bytes(out)


def _literal(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes of the literal at `at` begin, and how many they are."""
    length = (data[at] >> 2) + 1
    if length <= 60:
        return at + 1, length
    after = at + 1 + length - 60  # the length in one to four bytes
    return after, int.from_bytes(data[at + 1 : after], "little") + 1


def _copy(data: bytes, at: int) -> tuple[int, int, int]:
    """Where the copy at `at` ends, how many bytes it copies, and from how far back."""
    tag = data[at]
    if tag & 3 == _COPY_1:
        return at + 2, 4 + (tag >> 2 & 7), tag >> 5 << 8 | data[at + 1]
    end = at + (3 if tag & 3 == _COPY_2 else 5)
    return end, (tag >> 2) + 1, int.from_bytes(data[at + 1 : end], "little")


def _repeat(out: bytearray, length: int, distance: int) -> None:
    """Append `length` bytes of what stands `distance` back; they may overlap what is appended."""
    start = len(out) - distance
    if start < 0 or not distance:
        raise ValueError(f"a copy from {distance} bytes back, after {len(out)}")
    piece = out[start : start + length]
    out += (piece * (length // len(piece) + 1))[:length] if len(piece) < length else piece
