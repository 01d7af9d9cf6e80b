"""Sorted tables: the .ldb files, in older databases .sst."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from .format import FIXED32, FIXED64, Bytes, check_sum, damage, map_file, reporting, varint
from .log import Entry
from .snappy import decompress

FOOTER = 48  # bytes
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: its compression and checksum
PLAIN, SNAPPY = 0, 1


class Table:
    """A table's entries in the order of their keys. Each block is checked when it is first read.

    checked: a byte for each block that says whether it was checked, which grows to their number and
    outlives the table.
    """

    def __init__(self, path: str, checked: bytearray) -> None:
        self.path, self._data, self._checked = path, map_file(path), checked
        at = max(len(self._data) - FOOTER, 0)
        with reporting(path, at, "the footer of a table"):
            magic = FIXED64.unpack_from(self._data, len(self._data) - FIXED64.size)[0]
            if magic != MAGIC:
                raise ValueError(f"it ends with {magic:#x} instead of {MAGIC:#x}")
            _, _, after = _handle(self._data, at)  # of what else the table states of itself
            at, size, _ = _handle(self._data, after)
        with reporting(path, at, "the index of a table"):
            index = [(key, _handle(value, 0)) for key, value in _parse(self._block(at, size, True))]
        self._last_keys = [key[: -FIXED64.size] for key, _ in index]
        self._handles = [handle[:2] for _, handle in index]
        checked.extend(bytes(len(index) - len(checked)))

    def entries(self, start: bytes, check: bool) -> Iterator[Entry]:
        """Yield the Entry of each record whose key is `start` or greater."""
        for number in range(bisect_left(self._last_keys, start), len(self._handles)):
            at, size = self._handles[number]
            block = self._block(at, size, check and not self._checked[number])
            self._checked[number] |= check
            with reporting(self.path, at, "a block of records"):
                for key, value in _parse(block):
                    order = ~FIXED64.unpack_from(key, len(key) - FIXED64.size)[0]
                    key = key[: -FIXED64.size]
                    if key >= start:
                        yield key, order, value

    def _block(self, at: int, size: int, check: bool) -> memoryview:
        """The block of `size` bytes at `at`, decompressed."""
        end = at + size
        block, trailer = self._data[at:end], self._data[end : end + TRAILER]
        if len(trailer) < TRAILER:
            raise damage(self.path, at, f"expected a block of {size} bytes, found the file's end")
        if check:
            check_sum(self.path, at, FIXED32.unpack_from(trailer, 1)[0], self._data[at : end + 1])
        if trailer[0] == PLAIN:
            return block
        with reporting(self.path, at, f"a block of {size} bytes"):
            if trailer[0] != SNAPPY:
                raise ValueError(f"its compression is {trailer[0]}, not 0 (none) or 1 (Snappy)")
            return memoryview(decompress(block))


def _handle(data: Bytes, at: int) -> tuple[int, int, int]:
    """The place and size of a block, and where the two numbers end."""
    place, at = varint(data, at)
    size, at = varint(data, at)
    return place, size, at


def _parse(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield each key and value of a block; a key shares its beginning with the one before."""
    restarts = FIXED32.unpack_from(block, len(block) - FIXED32.size)[0]
    at, end, key = 0, len(block) - FIXED32.size * (restarts + 1), b""
    while at < end:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        size, at = varint(block, at)
        value = at + added
        if value + size > end or shared > len(key):
            raise ValueError("a record is longer than the block")
        key = key[:shared] + bytes(block[at:value])
        at = value + size
        yield key, block[value:at]
    if at != end:
        raise ValueError("it has no end")
