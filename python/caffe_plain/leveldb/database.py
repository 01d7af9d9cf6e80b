"""A LevelDB, opened for reading only: without a lock, and without writing into its folder."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property, lru_cache
from heapq import merge

from .format import VALUE, Bytes
from .log import Entry, WriteLog
from .manifest import TableFile, read_manifest, table_path
from .table import Table

OPEN_TABLES = 64  # more are opened again when they are needed


class LevelDB:
    """A LevelDB, with the methods of an lmdb.Environment that readers of either need.

    path: its folder. LevelDB itself writes when it reads, and lets one process in at a time; this
    lets any number of them read a folder that cannot be written to. It does not see what is
    written after it was opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        tables, logs = read_manifest(path)
        self._logs = [WriteLog(log) for log in logs]
        self._runs = _runs(tables)
        self._checked = {table.number: bytearray() for table in tables}
        self._table = lru_cache(OPEN_TABLES)(self._open)

    def begin(self, buffers: bool = False) -> Transaction:
        """A Transaction whose values are memoryviews if `buffers`, else bytes."""
        return Transaction(self, buffers)

    def stat(self) -> dict[str, int]:
        """{"entries": how many records there are}, for which all keys are read once."""
        return {"entries": self._entries}

    def close(self) -> None:
        """Let go of the files; values already read stay."""
        self._table.cache_clear()
        self._logs, self._runs = [], []

    def records(self, start: bytes = b"", check: bool = True) -> Iterator[tuple[bytes, Bytes]]:
        """Yield (key, value) of the records in the order of their keys, from `start` on."""
        last = None
        for key, order, value in merge(*self._sources(start, check)):
            if key != last:  # else an older one of the same key
                last = key
                if ~order & 0xFF == VALUE:
                    yield key, value

    def _sources(self, start: bytes, check: bool) -> Iterator[Iterator[Entry]]:
        for log in self._logs:
            yield log.entries(start)
        for run in self._runs:
            yield self._entries_of(run, start, check)

    def _entries_of(self, run: list[TableFile], start: bytes, check: bool) -> Iterator[Entry]:
        first = bisect_left([table.largest for table in run], start)
        for table in run[first:]:
            yield from self._table(table.number).entries(start, check)

    @cached_property
    def _entries(self) -> int:
        return sum(1 for _ in self.records(check=False))

    def _open(self, number: int) -> Table:
        return Table(table_path(self.path, number), self._checked[number])


class Transaction:
    """What lmdb.Environment.begin returns, as far as readers need it."""

    def __init__(self, database: LevelDB, buffers: bool) -> None:
        self._database, self._buffers = database, buffers

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cursor(self) -> Cursor:
        """A new Cursor, in front of the first record."""
        return Cursor(self._database, self._buffers)


class Cursor:
    """An lmdb.Cursor's methods to move forward, and to look for a key."""

    def __init__(self, database: LevelDB, buffers: bool) -> None:
        self._database, self._buffers = database, buffers
        self._records: Iterator[tuple[bytes, Bytes]] | None = None
        self._current: tuple[bytes, Bytes] = b"", b""

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self._records = None

    def __iter__(self) -> Iterator[tuple[bytes, Bytes]]:
        return self.iternext()

    def iternext(self, values: bool = True) -> Iterator:
        """Yield (key, value), or the key, of the current record and those after it."""
        there = self._records is not None or self.first()
        while there:
            yield (self.key(), self.value()) if values else self.key()
            there = self.next()

    def first(self) -> bool:
        """Go to the first record; False if there is none."""
        return self.set_range(b"")

    def next(self) -> bool:
        """Go to the next record, from the start to the first; False if there is none."""
        if self._records is None:
            return self.first()
        found = next(self._records, None)
        self._current = found or (b"", b"")
        return found is not None

    def set_range(self, key: bytes) -> bool:
        """Go to the first record whose key is `key` or greater; False if there is none."""
        self._records = self._database.records(key)
        return self.next()

    def key(self) -> bytes:
        """The current record's key."""
        return self._current[0]

    def value(self) -> Bytes:
        """The current record's value."""
        return (memoryview if self._buffers else bytes)(self._current[1])


def _runs(tables: list[TableFile]) -> list[list[TableFile]]:
    """The tables grouped so that the keys of a group ascend; those of level 0 overlap."""
    runs: dict[tuple[int, int], list[TableFile]] = {}
    for table in tables:
        runs.setdefault((table.level, 0 if table.level else table.number), []).append(table)
    return list(runs.values())
