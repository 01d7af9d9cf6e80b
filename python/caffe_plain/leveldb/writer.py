"""Making a LevelDB: a log of its writes, as LevelDB itself leaves what it has not yet sorted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Callable

from .format import FIXED32, FIXED64, VALUE, to_varint
from .log import append_record
from .manifest import BYTEWISE, COMPARATOR, LOG, NEXT_FILE, SEQUENCE

_BATCH_BYTES = 1 << 20  # of writes that become one record of the log


@contextmanager
def write_leveldb(folder: str | os.PathLike) -> Iterator[Callable[[bytes, bytes], None]]:
    """Make a LevelDB in the empty `folder`; yields put(key, value).

    It is meant for up to some gigabytes: opening it takes going through all of it, and LevelDB
    itself then turns it into tables.
    """
    with open(os.path.join(folder, "000002.log"), "xb") as file:
        batches = _Batches(file)
        yield batches.put
        batches.flush()
    with open(os.path.join(folder, "MANIFEST-000001"), "xb") as file:
        numbers = (LOG, 2, NEXT_FILE, 3, SEQUENCE, batches.count)
        name = to_varint(COMPARATOR) + to_varint(len(BYTEWISE)) + BYTEWISE
        append_record(file, name + b"".join(map(to_varint, numbers)))
    with open(os.path.join(folder, "CURRENT"), "xb") as file:
        file.write(b"MANIFEST-000001\n")


class _Batches:
    """Writes of a log file, gathered into records; count: those in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.count = 0
        self._file, self._pieces, self._bytes = file, list[bytes](), 0

    def put(self, key: bytes, value: bytes) -> None:
        write = bytes([VALUE]) + to_varint(len(key)) + key + to_varint(len(value)) + value
        self._pieces.append(write)
        self._bytes += len(write)
        if self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        header = FIXED64.pack(self.count + 1) + FIXED32.pack(len(self._pieces))
        append_record(self._file, header + b"".join(self._pieces))
        self.count += len(self._pieces)
        self._pieces.clear()
        self._bytes = 0
