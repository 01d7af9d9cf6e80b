"""Datum, the record of Caffe's LMDBs, read in place: no copy of its pixels is made.

Needs neither protobuf nor Caffe, so that worker processes start in no time.
"""

from __future__ import annotations

from typing import NamedTuple

# 8 * the field's number + the kind of value that it holds; floats come packed or one by one
_FIELDS = {
    8: "channels",
    16: "height",
    24: "width",
    34: "data",
    40: "label",
    50: "float_data",
    53: "float_data",
    56: "encoded",
}


class Datum(NamedTuple):
    """A record: an image and its label."""

    channels: int = 0
    height: int = 0
    width: int = 0
    data: bytes | memoryview = b""  # a view of the pixels or of the encoded image
    label: int = 0
    float_data: int | bool = 0  # only whether there is any
    encoded: int = 0


_EMPTY = Datum()


def read_datum(record: bytes | memoryview) -> Datum:
    """The Datum in the bytes `record`; ValueError says what is wrong with it."""
    view = memoryview(record)
    found, at, end = {}, 0, len(view)
    try:
        while at < end:
            tag, at = _varint(view, at)
            kind = tag & 7
            if kind == 0:
                value, at = _varint(view, at)
            elif kind == 2:
                size, start = _varint(view, at)
                at = start + size
                value = view[start:at]
            elif kind in (1, 5):
                value, at = True, at + (8 if kind == 1 else 4)
            else:
                raise IndexError
            found[_FIELDS.get(tag, "")] = value
        if at > end:
            raise IndexError
    except IndexError:
        raise ValueError(f"{end} bytes that are not a Datum") from None
    found.pop("", None)
    datum = _EMPTY._replace(**found)
    return datum._replace(label=_int32(datum.label)) if datum.label >> 31 else datum


def raw_shape(datum: Datum) -> tuple[int, int, int]:
    """The shape (C, H, W) of a Datum of raw pixels; ValueError if it holds more or fewer."""
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or len(datum.data) != shape[0] * shape[1] * shape[2]:
        raise ValueError(
            f"channels, height, width say {shape}, but it holds {len(datum.data)} values"
        )
    return shape


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends; IndexError if the bytes end first."""
    byte = view[at]
    at += 1
    if byte < 128:
        return byte, at
    value, shift = byte & 127, 7
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)
