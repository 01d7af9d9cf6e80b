"""What LevelDB's files have in common: numbers, checksums, and how damage in them is reported."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Union

from ..errors import DataError
from .crc32c import crc32c

Bytes = Union[bytes, memoryview]
FIXED32 = struct.Struct("<I")
FIXED64 = struct.Struct("<Q")
DELETION, VALUE = 0, 1  # the kinds of an entry
CURE = "the database is damaged: copy it again from where it came, or make it again"


def varint(data: Bytes, at: int) -> tuple[int, int]:
    """The number at `at`, seven bits a byte, and where it ends; IndexError if data is too short."""
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte >= 128:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
    return value, at + 1


def to_varint(value: int) -> bytes:
    """`value` as `varint` reads it."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def prefixed(data: Bytes, at: int) -> tuple[Bytes, int]:
    """The bytes whose length stands at `at`, and where they end."""
    size, at = varint(data, at)
    if at + size > len(data):
        raise IndexError("it ends too early")
    return data[at : at + size], at + size


def checksum(*pieces: Bytes) -> int:
    """The CRC-32C of `pieces` as LevelDB stores it: rotated, and with a constant added."""
    crc = crc32c(*pieces)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def check_sum(path: str, at: int, stored: int, *pieces: Bytes) -> None:
    """Raise DataError if `stored`, the checksum of what stands at `at` in a file, is not theirs."""
    found = checksum(*pieces)
    if found != stored:
        size = sum(map(len, pieces))
        raise damage(
            path, at, f"expected {size} bytes with checksum {stored:#010x}, found {found:#010x}"
        )


def damage(path: str, at: int, what: str) -> DataError:
    """The error about damage at byte `at` of a file."""
    return DataError(f"{path}: at byte {at}: {what}; {CURE}")


@contextmanager
def reporting(path: str, at: int, expected: str) -> Iterator[None]:
    """Turn errors of parsing what stands at byte `at` of a file into one about damage."""
    try:
        yield
    except (LookupError, ValueError, struct.error) as error:
        raise damage(path, at, f"expected {expected}, found damage ({error})") from error


def map_file(path: str) -> memoryview:
    """A file's bytes. They stay mapped as long as a part of them is referred to."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; {CURE}") from error
