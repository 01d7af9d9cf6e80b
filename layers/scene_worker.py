"""A process that reads, decodes and cuts records for a SceneData layer. Started by scene_pool.

    python -m relaybp.layers.scene_worker TASKS RESULTS MEMORY SETTINGS

The first three are inherited file handles: a pipe of tasks that all workers share, a pipe of
results, and the memory of the batches. SETTINGS is the JSON of the pool's settings. A worker ends
when the pipe of tasks closes, so also when its parent is killed.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from caffe_plain.database import Cursor, open_database
from caffe_plain.errors import CaffeError

from .crops import COLUMNS, Cutter
from .datum import Datum, raw_shape, read_datum
from .errors import SceneError
from .record_index import read_index
from .scene_message import parse_options

TASK = struct.Struct("<iii")  # slot, first and last + 1 of its items
RESULT = struct.Struct("<iiii")  # bytes of the text after it, slot, items done, records left out
LONGEST_TEXT = 3000  # with its header, what a pipe takes in one piece
NICENESS = 10  # the net's own computation goes first
_NEIGHBOURS = 1000  # records in which another one of the same class is looked for at a time


class Slots:
    """The arrays of the batches in shared memory; one row of each array per slot."""

    records: np.ndarray  # (slots, N) int64
    draws: np.ndarray  # (slots, N, 5) in [0, 1), see windows.py
    places: np.ndarray  # (slots, N, 3) mirrored, top, left
    pixels: np.ndarray  # (slots, N, h, w, C) uint8
    bytes: int  # of them all

    def __init__(
        self, memory: mmap.mmap | None, slots: int, batch_size: int, shape: Sequence[int]
    ) -> None:
        fields = [
            ("records", np.int64, (batch_size,)),
            ("draws", np.float64, (batch_size, len(COLUMNS))),
            ("places", np.int32, (batch_size, 3)),
            ("pixels", np.uint8, (batch_size, *shape)),
        ]
        at = 0
        for name, dtype, tail in fields:
            size = int(np.prod((slots, *tail))) * np.dtype(dtype).itemsize
            if memory is not None:
                array = np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize, at)
                setattr(self, name, array.reshape(slots, *tail))
            at += -(-size // 4096) * 4096
        self.bytes = at


class Reader:
    """Cuts the records of a database into a slot."""

    def __init__(self, source: str, cutter: Cutter, skip_damaged: bool) -> None:
        self.source, self.cutter, self.skip_damaged = source, cutter, skip_damaged
        self.index = read_index(source)
        self._environment = open_database(source)
        self._complaints = _Complaints()

    def fill(self, slots: Slots, slot: int, first: int, last: int) -> list[str]:
        """Cut the records of the items `first` to `last`; returns those that had to be left out."""
        pixels, places = slots.pixels[slot], slots.places[slot]
        records, draws = slots.records[slot].tolist(), slots.draws[slot].tolist()
        left_out = []
        with self._environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            for item in range(first, last):
                reasons = []
                for record in self._candidates(records[item]):
                    try:
                        places[item] = self._cut(cursor, record, draws[item], pixels[item])
                        break
                    except ValueError as error:
                        reasons.append(f"record {self._name(cursor, record)!r}: {error}")
                        if not self.skip_damaged:
                            raise SceneError(reasons[0]) from None
                else:
                    raise SceneError(f"{reasons[0]}; and no other record of its class is good")
                left_out += reasons
        return left_out

    def _candidates(self, record: int) -> Iterator[int]:
        """The record, and after it those of its class that can stand in, in the order of keys."""
        yield record
        labels, count = self.index.labels, len(self.index)
        for start in range(record + 1, record + count, _NEIGHBOURS):
            numbers = np.arange(start, min(start + _NEIGHBOURS, record + count)) % count
            yield from numbers[labels[numbers] == labels[record]].tolist()

    def _cut(
        self, cursor: Cursor, record: int, draw: Sequence[float], out: np.ndarray
    ) -> tuple[bool, int, int]:
        if not cursor.set_range(self.index.key(record)):
            raise ValueError("it is not there; the index is out of date: delete record_index.npy")
        datum = read_datum(cursor.value())
        if datum.label != self.index.labels[record]:
            raise ValueError(
                f"its label is {datum.label}, in the index "
                f"{self.index.labels[record]}; delete record_index.npy"
            )
        if not datum.encoded:
            return self.cutter.planes(pixels_of(datum), draw, out)
        place = self.cutter.encoded(datum.data, out.shape[2] == 3, draw, out)
        complaint = self._complaints.since_last()
        if complaint:
            raise ValueError(f"damaged image: {complaint}")
        return place

    def _name(self, cursor: Cursor, record: int) -> str:
        if not cursor.set_range(self.index.key(record)):
            return str(record)
        return bytes(cursor.key()).decode("utf-8", "replace")


def pixels_of(datum: Datum) -> np.ndarray:
    """The raw pixels of a Datum as (C, H, W)."""
    if datum.float_data:
        raise ValueError("holds floats; SceneData takes pixels of 8 bits: use a Data layer")
    return np.frombuffer(datum.data, np.uint8).reshape(raw_shape(datum))


class _Complaints:
    """What C libraries write to stderr: libjpeg reports damage only there."""

    def __init__(self) -> None:
        self._handle, path = tempfile.mkstemp()
        os.unlink(path)
        sys.stderr = os.fdopen(os.dup(2), "w")  # Python's own messages go where they went before
        os.dup2(self._handle, 2)

    def since_last(self) -> str:
        """The first line written since the last call, or an empty text."""
        if not os.lseek(self._handle, 0, os.SEEK_CUR):  # the position that 2 shares
            return ""
        text = os.pread(self._handle, 500, 0).decode("utf-8", "replace")
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.truncate(self._handle, 0)
        return text.strip().partition("\n")[0]


def serve(tasks: int, results: int, memory: int, settings: dict[str, Any]) -> None:
    """Do tasks until the pipe closes."""
    options = parse_options(settings["options"])
    shape = tuple(settings["shape"])
    cutter = Cutter(options, settings["training"], shape[:2])
    slots = Slots(mmap.mmap(memory, 0), settings["slots"], options.batch_size, shape)
    reader = None
    while True:
        task = os.read(tasks, TASK.size)
        if not task:
            return
        slot, first, last = TASK.unpack(task)
        try:
            reader = reader or Reader(options.source, cutter, options.skip_damaged)
            left_out = reader.fill(slots, slot, first, last)
            done, text = last - first, "\n".join(left_out)
        except CaffeError as error:
            done, left_out, text = -1, [], str(error)
        except Exception as error:  # whatever it is, the net must be told
            done, left_out, text = -1, [], f"{type(error).__name__}: {error}"
        text = text.encode()[:LONGEST_TEXT]
        os.write(results, RESULT.pack(len(text), slot, done, len(left_out)) + text)


def main() -> None:
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    tasks, results, memory = map(int, sys.argv[1:4])
    with contextlib.suppress(BrokenPipeError):
        serve(tasks, results, memory, json.loads(sys.argv[4]))


if __name__ == "__main__":
    main()
