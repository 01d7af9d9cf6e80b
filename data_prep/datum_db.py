"""An LMDB of Datums that survives a kill, a full disk and a full map, and appears only when
complete.

It is built in FOLDER.partial and renamed to FOLDER at the end. Beside data.mdb it then holds
classes.txt (a class name a line), class_index.tsv (label, records), record_index.npy (key and label
of each record, see layers/record_index.py), checksums.npy (CRC-32 of each record, in the order of
the keys), skipped.tsv (records left out, if any) and settings.json (what made it). A train_lmdb
also leaves classes.txt in its parent folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from caffe.proto import caffe_pb2
from caffe_plain.class_names import write_class_names
from caffe_plain.files import write_atomically
from relaybp.data_prep.errors import PrepError
from relaybp.layers import record_index
from relaybp.layers.datum import read_datum

INITIAL_MAP_BYTES = 1 << 28  # address space, not disk; doubled whenever it is full
LARGEST_KEY_BYTES = 511  # LMDB's own limit
TRAINING = "train_lmdb"  # the trainer looks for classes.txt beside a database of this name
CHECKSUMS = "checksums.npy"
# what is noted of a record while converting; its number, with which the key begins, has 8 digits
ROW = np.dtype([("key", "S8"), ("label", "<i4"), ("checksum", "<u4")])
BATCH_RECORDS, BATCH_BYTES = 1000, 1 << 26  # a transaction: 1000 as the original, or 64 MiB


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


class DatumDB:
    """The writer. `settings` (a dict) says what is being written; only a run with the same settings
    may continue it.

    next_record: the first record number that is not in the database yet.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self._refuse_existing()
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.partial / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._env = None
        self._batch, self._batch_bytes, self._skipped, self._last_key = [], 0, [], b""
        try:
            self._claim()
            self._env = lmdb.open(str(self.partial), map_size=INITIAL_MAP_BYTES)
            self.next_record = self._find_next()
            self._compare(settings)
            self._keep_skips_before(self.next_record)
            self._keep_rows(self._env.stat()["entries"])
        except lmdb.Error as error:
            self.close()
            raise self._write_error(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DatumDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what is not flushed is left for the next run."""
        if self._env is not None:
            empty = self._env.stat()["entries"] == 0
            self._env.close()
            self._env = None
            if empty:
                shutil.rmtree(self.partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def first_record(self) -> bytes | None:
        """The first serialized Datum, or None."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            return cursor.value() if cursor.first() else None

    def put(self, key: bytes, record: bytes) -> None:
        """Add a record; keys must come in ascending order."""
        self._batch.append((key, record))
        self._batch_bytes += len(record)
        if len(self._batch) >= BATCH_RECORDS or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def skip(self, record: int, where: str, reason: str) -> None:
        """Note that a record is left out, and why."""
        self._skipped.append((record, " ".join(where.split()), " ".join(reason.split())))

    def flush(self) -> None:
        """Make everything so far survive a kill."""
        try:
            self._append_skips()  # first: a later run repeats those after the last record
            self._append_rows()
            while self._batch and not self._commit():
                self._env.set_mapsize(2 * self._env.info()["map_size"])
        except (lmdb.Error, OSError) as error:
            raise self._write_error(error) from error
        self._batch, self._batch_bytes = [], 0

    def skipped(self) -> dict[int, tuple[str, str]]:
        """Every record left out so far: {record number: (where, reason)}, this run or earlier."""
        self.flush()
        return {record: (where, reason) for record, where, reason in read_skips(self.partial)}

    def finish(self, counts: Sequence[int], names: Sequence[str]) -> None:
        """Write the side files and give the database its name.

        counts: records of each label; names: a name for each label.
        """
        self.flush()
        found, expected = self._env.stat()["entries"], sum(counts)
        if found != expected:
            raise PrepError(
                f"{self.partial} holds {found} records instead of {expected}: delete "
                "it and convert again"
            )
        try:
            write_class_names(self.partial / "classes.txt", names)
            if self.folder.name == TRAINING:
                write_class_names(self.folder.with_name("classes.txt"), names)
            write_atomically(
                self.partial / "class_index.tsv",
                "".join(f"{label}\t{count}\n" for label, count in enumerate(counts)),
            )
            self._write_index()
            self._env.sync(True)
            self._env.close()
            self._env = None
            (self.partial / "writer.lock").unlink()
            os.rename(self.partial, self.folder)
            _sync_folder(self.folder.parent)
        except (lmdb.Error, OSError) as error:
            raise self._write_error(error) from error
        finally:
            self.close()

    def _refuse_existing(self) -> None:
        if self.folder.exists():
            raise PrepError(f"{self.folder} exists already: delete it or choose another name")

    def _claim(self) -> None:
        """Become the only writer."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepError(f"another process is writing {self.partial}: let it finish") from None
        self._refuse_existing()

    def _compare(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with records that were made with other settings."""
        path = self.partial / "settings.json"
        if self.next_record == 0:
            write_atomically(path, json.dumps(settings, indent=1) + "\n")
            return
        before = json.loads(path.read_text())
        if before != settings:
            changes = [
                f"{name} was {before.get(name)!r}, is now {settings.get(name)!r}"
                for name in {**before, **settings}
                if before.get(name) != settings.get(name)
            ]
            raise PrepError(
                f"{self.partial} was begun with other settings ({'; '.join(changes)}): "
                "continue with the same ones, or delete it to begin again"
            )

    def _find_next(self) -> int:
        with self._env.begin() as txn, txn.cursor() as cursor:
            self._last_key = cursor.key() if cursor.last() else b""
        return int(self._last_key.split(b"_")[0]) + 1 if self._last_key else 0

    def _commit(self) -> bool:
        """Write the batch in one transaction; false if the map is too small for it."""
        try:
            with self._env.begin(write=True) as txn:
                for key, record in self._batch:
                    txn.put(key, record, append=True)
        except lmdb.MapFullError:
            return False
        return True

    def _append_rows(self) -> None:
        """Save what the side files will say about the records of the batch."""
        rows = np.empty(len(self._batch), ROW)
        for row, (key, record) in zip(rows, self._batch, strict=True):
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

    def _write_error(self, error: Exception) -> PrepError:
        free = shutil.disk_usage(self.partial.parent).free // 10**6
        return PrepError(
            f"cannot write {self.partial} ({free} MB free on that disk): {error}; "
            "nothing that looks complete is left: free some space and give the same "
            "command again to continue, or delete that folder"
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
