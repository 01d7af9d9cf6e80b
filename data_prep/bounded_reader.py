"""What a compressed file unpacks to, within bounds: a few kilobytes can claim to be terabytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from relaybp.data_prep.errors import PrepError

MOST_BYTES = 1 << 40  # that one archive unpacks to; ImageNet's largest has 147 GB
MOST_RATIO = 100  # unpacked bytes to packed ones; images hardly compress
FREE_BYTES = 1 << 24  # that any archive may unpack to, however small it is
MOST_AT_ONCE_BYTES = 1 << 24  # in one read, such as that of a tar's own header

_OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


@contextmanager
def decompressed(packed: IO[bytes], where: object) -> Iterator[BoundedReader]:
    """Yield the reader of what a seekable file holds, compressed or not; errors name `where`."""
    size_bytes = packed.seek(0, 2)
    packed.seek(0)
    opener = _OPENERS.get(packed.read(2))
    packed.seek(0)
    if opener is None:
        yield BoundedReader(packed, size_bytes, where)
        return
    with opener(packed) as unpacked:
        yield BoundedReader(unpacked, size_bytes, where)


class BoundedReader:
    """Reads a file up to a bound; what lies behind it is a PrepError.

    packed_bytes: the size of the file on disk, of which the bound is a multiple.
    where: names the file in errors.
    """

    def __init__(self, file: IO[bytes], packed_bytes: int, where: object):
        self._file, self._where = file, where
        self._packed_bytes = packed_bytes
        self._bound_bytes = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * packed_bytes))

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer at the end; all of them at once are too many."""
        if not 0 <= count <= MOST_AT_ONCE_BYTES:
            raise ValueError(f"it has a header of {count:,} bytes")
        self.check(self._file.tell())
        return self._file.read(count)

    def seek(self, position: int) -> int:
        """Go to a place, counted in bytes from the start."""
        self.check(position)
        return self._file.seek(position)

    def seekable(self) -> bool:
        """True: a tar within this one needs it."""
        return True

    def tell(self) -> int:
        """Where the reader is, in bytes from the start."""
        return self._file.tell()

    def check(self, size_bytes: int) -> None:
        """Raise PrepError if so many unpacked bytes are beyond the bound."""
        if size_bytes > self._bound_bytes:
            raise PrepError(
                f"{self._where}: it unpacks to {size_bytes:,} bytes or more from "
                f"{self._packed_bytes:,}; at most {self._bound_bytes:,} are unpacked, {MOST_RATIO} "
                "for each packed byte: no data set needs more, so do not trust this archive"
            )
