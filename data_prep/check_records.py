"""Runs of records, read back and decoded in worker processes: for check_database.py."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

from caffe_plain.database import Environment, open_database
from relaybp.data_prep.images import check_image
from relaybp.layers.datum import Datum, raw_shape, read_datum
from relaybp.layers.images import open_image

Shape = tuple[int, int, int]  # channels, height, width


class Checked(NamedTuple):
    """What a record is, read back; None where there is no telling."""

    key: bytes
    label: int | None
    checksum: int
    shape: Shape | None
    reason: str | None  # what is wrong


def check_run(source: str, run: tuple[bytes, int]) -> list[Checked]:
    """The Checked of each record of a run, (its first key, number of records)."""
    first, count = run
    with _environment(source).begin(buffers=True) as transaction, transaction.cursor() as cursor:
        cursor.set_range(first)
        return [
            Checked(bytes(key), *check_record(record))
            for _, (key, record) in zip(range(count), cursor, strict=False)
        ]


def check_record(record: bytes | memoryview) -> tuple[int | None, int, Shape | None, str | None]:
    """The label, the checksum, the shape and what is wrong with it, of a record's bytes."""
    checksum = zlib.crc32(record)
    try:
        datum = read_datum(record)
    except ValueError as error:
        return None, checksum, None, str(error)
    found = _shape(datum, record)
    shape, reason = (None, found) if isinstance(found, str) else (found, None)
    return datum.label, checksum, shape, reason


def _shape(datum: Datum, record: bytes | memoryview) -> Shape | str:
    """The shape (C, H, W) of what a Datum holds, or what is wrong with it."""
    if datum.encoded:
        found = check_image(datum.data)
        if isinstance(found, str):
            return found
        shape = (1 if found.ndim == 2 else found.shape[2], *found.shape[:2])
        return _refused(datum.data) or shape
    if datum.float_data:
        from caffe.files.datum import decode_datum  # here, because few databases hold floats
        from caffe_plain.errors import DataError

        try:
            return decode_datum(bytes(record), b"").shape
        except DataError as error:
            return str(error)
    try:
        return raw_shape(datum)
    except ValueError as error:
        return str(error)


def _refused(data: bytes | memoryview) -> str | None:
    """Why training would refuse an image file, or None: its decoder is stricter than OpenCV."""
    try:
        image = open_image(data)
        image.part(0, 0, *image.size)
    except ValueError as error:
        return str(error)
    return None


@lru_cache(1)
def _environment(source: str) -> Environment:
    return open_database(source, readahead=False)
