"""The MANIFEST: which tables and logs make up a database."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DataError
from .format import CURE, FIXED64, map_file, prefixed, reporting, varint
from .log import read_log

COMPARATOR, LOG, NEXT_FILE, SEQUENCE, COMPACTED, DELETED, NEW, OLD_LOG = 1, 2, 3, 4, 5, 6, 7, 9
BYTEWISE = b"leveldb.BytewiseComparator"


class TableFile(NamedTuple):
    """A table that a database consists of."""

    level: int
    number: int
    size: int  # bytes
    smallest: bytes  # keys
    largest: bytes


class Manifest(NamedTuple):
    """What a database consists of: `tables` by level and key, and the paths of .log files."""

    tables: list[TableFile]
    logs: list[str]


def read_manifest(folder: str) -> Manifest:
    """The Manifest of the database in `folder`, all of whose files are there in full size."""
    current = os.path.join(folder, "CURRENT")
    name = bytes(map_file(current)).decode("utf-8", "replace").rstrip("\n")
    if not re.fullmatch(r"MANIFEST-\d+", name):
        raise DataError(f"{current}: expected the name of a MANIFEST, found {name[:80]!r}; {CURE}")
    path = os.path.join(folder, name)
    edits = _Edits()
    for start, record in read_log(path, map_file(path)):
        with reporting(path, start, "a change of the database"):
            edits.add(record)
    if edits.log is None:
        raise DataError(f"{path}: expected the number of a log, found none; {CURE}")
    tables = sorted(edits.tables.values(), key=lambda table: (table.level, table.smallest))
    for table in tables:
        _check_size(table_path(folder, table.number), table.size)
    return Manifest(tables, list(_logs(folder, edits.log, edits.old_log)))


def table_path(folder: str, number: int) -> str:
    """The file of table `number`: .ldb, or .sst as older versions call it."""
    path = os.path.join(folder, f"{number:06d}.ldb")
    older = os.path.join(folder, f"{number:06d}.sst")
    return older if not os.path.exists(path) and os.path.exists(older) else path


def _logs(folder: str, oldest: int, older: int | None) -> Iterator[str]:
    """Yield the .log files whose writes are in no table yet: `older`, and from number `oldest`."""
    for name in sorted(os.listdir(folder)):
        number = int(name[:-4]) if re.fullmatch(r"\d+\.log", name) else -1
        if number >= oldest or number == older:
            yield os.path.join(folder, name)


class _Edits:
    """The state of a database after the changes that a MANIFEST records."""

    def __init__(self) -> None:
        self.tables: dict[tuple[int, int], TableFile] = {}  # by level and number
        self.log: int | None = None  # older ones are in tables already
        self.old_log: int | None = None

    def add(self, record: bytes) -> None:
        at = 0
        while at < len(record):
            tag, at = varint(record, at)
            if tag == COMPARATOR:
                name, at = prefixed(record, at)
                if name != BYTEWISE:
                    raise ValueError(f"its keys are compared by {name!r}, not {BYTEWISE!r}")
            elif tag == LOG:
                self.log, at = varint(record, at)
            elif tag == OLD_LOG:
                self.old_log, at = varint(record, at)
            elif tag in (NEXT_FILE, SEQUENCE):
                _, at = varint(record, at)
            elif tag in (COMPACTED, DELETED, NEW):
                level, at = varint(record, at)
                at = self._change(tag, level, record, at)
            else:
                raise ValueError(f"a field {tag} that LevelDB does not have")

    def _change(self, tag: int, level: int, record: bytes, at: int) -> int:
        """Take in a change of a level's tables; returns where it ends."""
        if tag == COMPACTED:
            return prefixed(record, at)[1]
        number, at = varint(record, at)
        if tag == DELETED:
            del self.tables[level, number]
            return at
        size, at = varint(record, at)
        smallest, at = _key(record, at)
        largest, at = _key(record, at)
        self.tables[level, number] = TableFile(level, number, size, smallest, largest)
        return at


def _key(record: bytes, at: int) -> tuple[bytes, int]:
    """A key without the order number after it."""
    key, at = prefixed(record, at)
    return bytes(key[: -FIXED64.size]), at


def _check_size(path: str, expected: int) -> None:
    if not os.path.exists(path):
        raise DataError(f"{path}: the database's MANIFEST names it, but it is not there; {CURE}")
    found = os.path.getsize(path)
    if found != expected:
        raise DataError(f"{path}: expected {expected} bytes, found {found}; {CURE}")
