"""The class index of a database of Datums: the label of every record and a way to its key.

The index is record_index.npy in its folder; the data tools write it while they convert. For a
database made by other tools it is built on first use, which reads every record's label once. If the
folder is not writable, the index goes to the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import time

import numpy as np

from caffe_plain.database import Environment, data_file, open_database
from caffe_plain.files import user_cache, write_pieces

from .datum import read_datum
from .errors import SceneError

FILE = "record_index.npy"
_CHUNK = 1 << 16  # records turned into arrays at a time
_SAY_EVERY_S = 10


class RecordIndex:
    """labels: (N,) int32, in the order of the keys; `key(record)`: where to look for a record.

    Of each key only a prefix is kept that is greater than every key before it: the first key that
    is not smaller than the prefix is the record's. For the keys of convert_imageset eight bytes are
    enough.
    """

    def __init__(self, rows: np.ndarray) -> None:
        # both stay in the mapped file, whose memory all processes share
        rows = np.asarray(rows)
        self._keys, self.labels = rows["key"], rows["label"]

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, record: int) -> bytes:
        """What to look for with a cursor's set_range to get record number `record`."""
        return bytes(self._keys[record])


def read_index(source: str | os.PathLike) -> RecordIndex:
    """The RecordIndex of the database at `source`, built and kept if there is none."""
    with contextlib.closing(open_database(source, readahead=False)) as environment:
        for path in _places(source):
            rows = _read(path)
            if rows is not None and _fits(rows, environment):
                return RecordIndex(rows)
        rows = build_rows(environment, source)
    for path in _places(source):
        with contextlib.suppress(OSError):
            write_rows(path, rows)
            break
    return RecordIndex(rows)


def build_rows(environment: Environment, source: str | os.PathLike) -> np.ndarray:
    """The rows of the index of a database, from its records."""
    chunks, keys, labels, before = [], [], [], b""
    total, said = environment.stat()["entries"], time.monotonic()
    with environment.begin(buffers=True) as transaction:
        for key, record in transaction.cursor():
            key = bytes(key)
            try:
                labels.append(read_datum(record).label)
            except ValueError as error:
                raise SceneError(
                    f"{source}: record {key.decode('utf-8', 'replace')!r}: {error}; "
                    "convert it again"
                ) from error
            keys.append(key_beginning(key, before))
            before = key
            if len(keys) == _CHUNK:
                chunks.append((np.array(keys), np.array(labels, np.int32)))
                keys, labels = [], []
                if time.monotonic() > said + _SAY_EVERY_S:
                    said = time.monotonic()
                    done = len(chunks) * _CHUNK
                    print(f"{source}: indexing labels, {done} of {total} records", file=sys.stderr)
    chunks.append((np.array(keys, "S1" if not keys else None), np.array(labels, np.int32)))
    return make_rows(*map(np.concatenate, zip(*chunks)))


def key_beginning(key: bytes, before: bytes) -> bytes:
    """The shortest beginning of `key` that is greater than `before`, the key in front of it."""
    size = len(os.path.commonprefix([key, before])) + 1
    while size < len(key) and key[size - 1] == 0:
        size += 1  # numpy drops zeros at the end
    if key[size - 1] == 0:
        raise SceneError(
            f"key {key!r} ends with a zero byte, which the index cannot keep; read "
            "this database with a Data layer, or convert it again"
        )
    return key[:size]


def make_rows(keys: np.ndarray | list[bytes], labels: np.ndarray | list[int]) -> np.ndarray:
    """Keys (bytes) and labels as rows of the index."""
    keys = np.asarray(keys)
    rows = np.empty(len(keys), [("key", keys.dtype), ("label", "<i4")])
    rows["key"], rows["label"] = keys, labels
    return rows


def write_rows(path: str, rows: np.ndarray) -> None:
    """Write an array's file so that it is there whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = io.BytesIO()
    np.save(file, rows)
    write_pieces(path, [file.getbuffer()], file.tell())


def _read(path: str) -> np.ndarray | None:
    """The rows in an index file, mapped, not loaded; None where there is no such file."""
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.dtype.names == ("key", "label") and rows.ndim == 1 else None


def _fits(rows: np.ndarray, environment: Environment) -> bool:
    """Whether the index belongs to this database: compares the count and some records."""
    count = environment.stat()["entries"]
    if len(rows) != count:
        return False
    with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
        for record in {0, count // 2, count - 1}:
            if not cursor.set_range(bytes(rows["key"][record])):
                return False
            with contextlib.suppress(ValueError):  # a damaged record shows when it is read
                if read_datum(cursor.value()).label != rows["label"][record]:
                    return False
    return True


def _places(source: str | os.PathLike) -> tuple[str, str]:
    """Where the index of a database may be: beside it, or in the user's cache."""
    file = os.path.realpath(data_file(source))
    stat = os.stat(file)
    version = f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape")
    beside = os.path.join(source, FILE) if os.path.isdir(source) else f"{source}.{FILE}"
    return beside, os.path.join(
        user_cache(), "caffe-relay", hashlib.sha256(version).hexdigest()[:32] + "." + FILE
    )
