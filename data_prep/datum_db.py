"""An LMDB of Datums, which grows as growing_db.py says.

A complete one has beside data.mdb: classes.txt (a class name a line), class_index.tsv (label,
records), record_index.npy (key and label of each record, see layers/record_index.py), checksums.npy
(CRC-32 of each record, in the order of the keys), skipped.tsv (records left out, if any) and
settings.json (what made it). A train_lmdb also leaves classes.txt in its parent folder.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe.proto import caffe_pb2
from caffe_plain.class_names import write_class_names
from caffe_plain.files import write_atomically
from relaybp.data_prep.growing_db import GrowingDB
from relaybp.layers import record_index
from relaybp.layers.datum import read_datum

LARGEST_KEY_BYTES = 511  # LMDB's own limit
TRAINING = "train_lmdb"  # the trainer looks for classes.txt beside a database of this name
CHECKSUMS = "checksums.npy"
# what is noted of a record while converting; its number, with which the key begins, has 8 digits
ROW = np.dtype([("key", "S8"), ("label", "<i4"), ("checksum", "<u4")])


def key_of(record: int, name: bytes) -> bytes:
    """The original's key: the record's number in eight digits, an underscore, the file name."""
    return b"%08d_%s" % (record, name)


def key_problem(record: int, name: bytes) -> str | None:
    """Why a record's key fits into no LMDB, or None."""
    key = key_of(record, name)
    if len(key) <= LARGEST_KEY_BYTES and record < 10**8:
        return None
    return (
        f"its key of {len(key)} bytes does not fit: an LMDB key has {LARGEST_KEY_BYTES} bytes at "
        "most, a record's number 8 digits; use a longer ROOTFOLDER and shorter names, or several "
        "databases"
    )


def raw_datum(data: bytes, shape: tuple[int, ...], label: int, **fields: Any) -> bytes:
    """A serialized Datum of pixels in (C, H, W) order, shape (C, H, W)."""
    datum = caffe_pb2.Datum(data=data, label=label, **fields)
    datum.channels, datum.height, datum.width = shape
    return datum.SerializeToString()


def encoded_datum(data: bytes, label: int) -> bytes:
    """A serialized Datum of an image file; only the file states its shape."""
    return caffe_pb2.Datum(data=data, label=label, encoded=True).SerializeToString()


def read_skips(folder: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yield (record, where, reason) of each record that was left out of a database."""
    path = Path(folder) / "skipped.tsv"
    text = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
    for line in text.split("\n")[:-1]:  # what is last was not written whole, because of a kill
        fields = line.split("\t")
        if len(fields) == 3:
            yield int(fields[0]), fields[1], fields[2]


class DatumDB(GrowingDB):
    """The writer: a GrowingDB of serialized Datums, and what lies beside it."""

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self._skipped: list[tuple[int, str, str]] = []
        super().__init__(folder, settings)

    def skip(self, record: int, where: str, reason: str) -> None:
        """Note that a record is left out, and why."""
        self._skipped.append((record, " ".join(where.split()), " ".join(reason.split())))

    def skipped(self) -> dict[int, tuple[str, str]]:
        """Every record left out so far: {record number: (where, reason)}, this run or earlier."""
        self.flush()
        return {record: (where, reason) for record, where, reason in read_skips(self.partial)}

    def finish(self, counts: Sequence[int], names: Sequence[str]) -> None:
        """Write the side files and give the database its name.

        counts: records of each label; names: a name for each label.
        """
        self._counts, self._names = counts, names
        self.complete(sum(counts))

    def _continue(self, count: int) -> None:
        self._keep_skips_before(self.next_record)
        self._keep_rows(count)

    def _note(self, batch: list[tuple[bytes, bytes]]) -> None:
        self._append_skips()  # first: a later run repeats those after the last record
        self._append_rows(batch)

    def _write_side_files(self) -> None:
        write_class_names(self.partial / "classes.txt", self._names)
        if self.folder.name == TRAINING:
            write_class_names(self.folder.with_name("classes.txt"), self._names)
        write_atomically(
            self.partial / "class_index.tsv",
            "".join(f"{label}\t{count}\n" for label, count in enumerate(self._counts)),
        )
        self._write_index()

    def _append_rows(self, batch: list[tuple[bytes, bytes]]) -> None:
        """Save what the side files will say about the records of the batch."""
        rows = np.empty(len(batch), ROW)
        for row, (key, record) in zip(rows, batch, strict=True):
            row["key"] = record_index.key_beginning(key, self._last_key)
            row["label"] = read_datum(record).label
            row["checksum"] = zlib.crc32(record)
            self._last_key = key
        with open(self.partial / "record_index.rows", "ab") as file:
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())

    def _keep_rows(self, count: int) -> None:
        """Drop what was saved about records that did not reach the database."""
        path = self.partial / "record_index.rows"
        if path.exists() and path.stat().st_size > count * ROW.itemsize:
            os.truncate(path, count * ROW.itemsize)

    def _write_index(self) -> None:
        path = self.partial / "record_index.rows"
        rows = np.fromfile(path, ROW)
        if len(rows) == self._env.stat()["entries"]:
            index, checksums = record_index.make_rows(rows["key"], rows["label"]), rows["checksum"]
        else:  # a crash of the system lost some
            index = record_index.build_rows(self._env, self.partial)
            with self._env.begin(buffers=True) as txn:
                checksums = np.array([zlib.crc32(record) for _, record in txn.cursor()], np.uint32)
        record_index.write_rows(str(self.partial / record_index.FILE), index)
        record_index.write_rows(str(self.partial / CHECKSUMS), checksums)
        path.unlink()

    def _append_skips(self) -> None:
        if not self._skipped:
            return
        with open(self.partial / "skipped.tsv", "a", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{record}\t{where}\t{why}\n" for record, where, why in self._skipped)
            file.flush()
            os.fsync(file.fileno())
        self._skipped = []

    def _keep_skips_before(self, record: int) -> None:
        """Drop notes on records that this run will read again."""
        kept = [skip for skip in read_skips(self.partial) if skip[0] < record]
        path = self.partial / "skipped.tsv"
        if kept:
            write_atomically(path, "".join("\t".join(map(str, skip)) + "\n" for skip in kept))
        elif path.exists():
            path.unlink()
