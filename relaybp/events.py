"""The event file of a run, which TensorBoard shows: scalars over iterations.

A file of records, each a length and bytes with their checksums (TFRecord); a record is an Event
message (tensorflow/core/util/event.proto), encoded here by hand because it has few fields.
"""

import os
import struct
import time


class EventFile:
    """Writes FOLDER/events.out.tfevents.SECONDS.relaybp."""

    def __init__(self, folder):
        name = f"events.out.tfevents.{int(time.time())}.relaybp"
        self._file = open(os.path.join(folder, name), "ab")  # noqa: SIM115, closed by close()
        self._write(_bytes(3, b"brain.Event:2"))

    def scalar(self, step, tag, value):
        """The value of `tag` after `step` iterations."""
        summary = _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        self._write(b"\x10" + _varint(step) + _bytes(5, summary))

    def go_on_from(self, step: int) -> None:
        """Let readers forget the scalars beyond `step`: the run goes on from there."""
        started = _bytes(7, b"\x08\x01")  # session_log { status: START }
        self._write(b"\x10" + _varint(step + 1) + started)

    def flush(self):
        """Make what was written visible to readers."""
        self._file.flush()

    def close(self):
        self._file.close()

    def _write(self, fields):
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _bytes(number, value):
    """A field of bytes or of a message: tag, length, value."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value):
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


def _checksum(data):
    """TFRecord's masked CRC-32C."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data):
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
