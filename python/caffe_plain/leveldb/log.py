"""Files of log records: the MANIFEST, and the .log files of writes that are in no table yet."""

from __future__ import annotations

import logging
import struct
from bisect import bisect_left
from collections.abc import Iterator
from typing import BinaryIO

from ..glog import say
from .format import (
    DELETION,
    FIXED64,
    VALUE,
    Bytes,
    check_sum,
    checksum,
    damage,
    map_file,
    prefixed,
    reporting,
    varint,
)

BLOCK = 32768  # bytes; no header reaches over the end of a block
HEADER = struct.Struct("<IHB")  # checksum, bytes that follow, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # the kinds of a piece of a record
Entry = tuple[bytes, int, Bytes]  # key, ~(sequence number << 8 | kind): newest first, value


def read_log(path: str, data: memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield (where its first byte stands, bytes) of each record of a log file.

    A record that the file's end cuts off was being written when its writer ended: as in LevelDB it
    does not count, which is logged. Raises DataError where anything else is damaged.
    """
    begin, end = 0, 0
    record: list[memoryview] | None = None
    for kind, start, end in _pieces(path, data):
        if kind in (FULL, FIRST):
            begin, record = start, []
        elif record is None:
            raise damage(path, start, "expected the beginning of a record, found its middle")
        record.append(data[start:end])
        if kind in (FULL, LAST):
            yield begin, b"".join(record)
            record = None
    if record is not None or any(data[end:]):
        say(
            "leveldb",
            f"{path}: a record is cut off by the end of the file, at byte {len(data)}; all before "
            "it is read. Unless the program that wrote it was stopped then, copy the file again.",
            logging.WARNING,
        )


def _pieces(path: str, data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield the kind, the start and the end of each whole piece of a record."""
    at = 0
    while at + HEADER.size <= len(data):
        room = BLOCK - at % BLOCK
        stored, size, kind = HEADER.unpack_from(data, at) if room >= HEADER.size else (0, 0, 0)
        if kind == 0 and size == 0:  # the end of a block, or space that was never written
            at += room
            continue
        start = at + HEADER.size
        if size > room - HEADER.size or not FULL <= kind <= LAST:
            raise damage(path, at, f"expected the header of a record, found {data[at:start].hex()}")
        if start + size > len(data):
            return
        check_sum(path, at, stored, data[start - 1 : start + size])
        at = start + size
        yield kind, start, at


def append_record(file: BinaryIO, record: bytes) -> None:
    """Write a record, in as many pieces as it takes, at the end of a log file."""
    at, first = 0, True
    while first or at < len(record):
        room = BLOCK - file.tell() % BLOCK
        if room < HEADER.size:
            file.write(bytes(room))
            room = BLOCK
        piece = record[at : at + room - HEADER.size]
        at += len(piece)
        last = at == len(record)
        kind = (FULL if last else FIRST) if first else (LAST if last else MIDDLE)
        file.write(HEADER.pack(checksum(bytes([kind]), piece), len(piece), kind) + piece)
        first = False


class WriteLog:
    """The writes of a .log file in the order of their keys. Values stay in the file."""

    def __init__(self, path: str) -> None:
        self.path, self._data = path, map_file(path)
        self._writes: list[tuple[bytes, int, int, int]] = []
        for start, batch in read_log(path, self._data):
            with reporting(path, start, "a batch of writes"):
                self._writes += _parse(batch, start)
        self._writes.sort()

    def entries(self, start: bytes) -> Iterator[Entry]:
        """Yield the Entry of each write whose key is `start` or greater."""
        for number in range(bisect_left(self._writes, (start,)), len(self._writes)):
            key, order, at, size = self._writes[number]
            yield key, order, self._value(at, size)

    def _value(self, at: int, size: int) -> Bytes:
        """The `size` bytes from `at` on, without the headers that stand between them."""
        pieces: list[memoryview] = []
        while size:
            room = min(size, BLOCK - at % BLOCK)
            pieces.append(self._data[at : at + room])
            size -= room
            at += room + HEADER.size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _parse(batch: bytes, start: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (key, order, where its value stands in the file, bytes of it) of each write."""
    sequence, at = FIXED64.unpack_from(batch)[0], FIXED64.size + 4
    count = int.from_bytes(batch[FIXED64.size : at], "little")
    for number in range(sequence, sequence + count):
        kind = batch[at]
        key, at = prefixed(batch, at + 1)
        size = 0
        if kind == VALUE:
            size, at = varint(batch, at)
        elif kind != DELETION:
            raise ValueError(f"a write is of kind {kind}")
        yield bytes(key), ~(number << 8 | kind), _place(start, at), size
        at += size
    if at != len(batch):
        raise ValueError(f"{count} writes take {at} bytes of {len(batch)}")


def _place(start: int, offset: int) -> int:
    """Where byte `offset` of a record stands, whose first byte stands at `start`."""
    room = -start % BLOCK  # of the first block
    if offset < room:
        return start + offset
    headers = 1 + (offset - room) // (BLOCK - HEADER.size)
    return start + offset + headers * HEADER.size
