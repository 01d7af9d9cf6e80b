"""The event file of a run, which TensorBoard shows: scalars, images and histograms over iterations.

A file of records, each a length and bytes with their checksums (TFRecord); a record is an Event
message (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto), encoded here by
hand because it has few fields.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence

import numpy as np

from .pictures import png

BUCKETS = 40  # of a histogram


class EventFile:
    """Writes FOLDER/events.out.tfevents.SECONDS.relaybp."""

    def __init__(self, folder: str):
        name = f"events.out.tfevents.{int(time.time())}.relaybp"
        self._file = open(os.path.join(folder, name), "ab")  # noqa: SIM115, closed by close()
        self._write(_bytes(3, b"brain.Event:2"))

    def scalar(self, step: int, tag: str, value: float) -> None:
        """The value of `tag` after `step` iterations."""
        self._summary(step, tag, b"\x15" + struct.pack("<f", value))

    def image(self, step: int, tag: str, pixels: np.ndarray) -> None:
        """A picture after `step` iterations: uint8, as `pictures.png` takes it."""
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        sizes = enumerate((*pixels.shape[:2], channels), 1)
        fields = b"".join(bytes([number << 3]) + _varint(size) for number, size in sizes)
        self._summary(step, tag, _bytes(4, fields + _bytes(4, png(pixels))))

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """How values are distributed after `step` iterations.

        Those that are not finite are left out; without any others nothing is written.
        """
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return
        counts, edges = np.histogram(values, BUCKETS)
        facts = (values.min(), values.max(), values.size, values.sum(), (values**2).sum())
        fields = b"".join(
            bytes([number << 3 | 1]) + struct.pack("<d", fact)
            for number, fact in enumerate(facts, 1)
        )
        self._summary(step, tag, _bytes(5, fields + _doubles(6, edges[1:]) + _doubles(7, counts)))

    def _summary(self, step: int, tag: str, value: bytes) -> None:
        """An Event with a Summary of one Value: its tag, and the encoded field `value`."""
        summary = _bytes(1, _bytes(1, tag.encode()) + value)
        self._write(b"\x10" + _varint(step) + _bytes(5, summary))

    def go_on_from(self, step: int) -> None:
        """Let readers forget the scalars beyond `step`: the run goes on from there."""
        started = _bytes(7, b"\x08\x01")  # session_log { status: START }
        self._write(b"\x10" + _varint(step + 1) + started)

    def flush(self) -> None:
        """Make what was written visible to readers."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _bytes(number: int, value: bytes) -> bytes:
    """A field of bytes or of a message: tag, length, value."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _doubles(number: int, values: Sequence[float] | np.ndarray) -> bytes:
    """A packed field of doubles."""
    return _bytes(number, struct.pack(f"<{len(values)}d", *values))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


def _checksum(data: bytes) -> bytes:
    """TFRecord's masked CRC-32C."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_TABLE = tuple(_table())
