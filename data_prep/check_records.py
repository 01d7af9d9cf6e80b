"""Runs of records, read back and decoded in worker processes: for check_database.py."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from caffe_plain.database import Environment, open_database
from caffe_plain.images import is_turned
from relaybp.data_prep.duplicates import fingerprint
from relaybp.data_prep.images import check_image
from relaybp.layers.datum import Datum, raw_shape, read_datum
from relaybp.layers.images import open_image

FORCE_COLOR = (
    "give the Data layer transform_param { force_color: true } (and this check --force_color), or "
    "convert again without -encoded"
)
Shape = tuple[int, int, int]  # channels, height, width


class Checked(NamedTuple):
    """What a record is, read back; None where there is no telling."""

    key: bytes
    label: int | None
    checksum: int
    shape: Shape | None = None
    pixels: int | None = None  # their fingerprint
    turned: bool = False  # a photo whose orientation says that its pixels are not upright
    reason: str | None = None  # what is wrong


def check_run(source: str, force_color: bool, run: tuple[bytes, int]) -> list[Checked]:
    """The Checked of each record of a run, (its first key, number of records)."""
    first, count = run
    with _environment(source).begin(buffers=True) as transaction, transaction.cursor() as cursor:
        cursor.set_range(first)
        return [
            check_record(record, bytes(key), force_color)
            for _, (key, record) in zip(range(count), cursor, strict=False)
        ]


def check_record(
    record: bytes | memoryview, key: bytes = b"", force_color: bool = False
) -> Checked:
    """The Checked of a record's bytes, as a Data layer reads it, with force_color or without."""
    checksum = zlib.crc32(record)
    try:
        datum = read_datum(record)
    except ValueError as error:
        return Checked(key, None, checksum, reason=str(error))
    checked = Checked(key, datum.label, checksum)
    try:
        pixels = _pixels(datum, record, force_color)
    except ValueError as error:
        return checked._replace(reason=str(error))
    return checked._replace(
        shape=(1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2]),
        pixels=fingerprint(pixels),
        turned=bool(datum.encoded) and is_turned(datum.data),
    )


def _pixels(datum: Datum, record: bytes | memoryview, force_color: bool) -> np.ndarray:
    """What a Datum holds, (H, W, C) or (H, W); ValueError says what is wrong with it."""
    if datum.encoded:
        pixels = check_image(datum.data, True if force_color else None)
        if isinstance(pixels, str):
            raise ValueError(pixels)
        if pixels.dtype != np.uint8:
            raise ValueError(f"pixels of {pixels.dtype}, not of 8 bits: {FORCE_COLOR}")
        _open_as_training_does(datum.data)
        return pixels
    if datum.float_data:
        from caffe.files.datum import decode_datum  # here, because few databases hold floats
        from caffe_plain.errors import DataError

        try:
            return decode_datum(bytes(record), b"").transpose(1, 2, 0)
        except DataError as error:
            raise ValueError(str(error)) from error
    shape = raw_shape(datum)
    return np.frombuffer(datum.data, np.uint8).reshape(shape).transpose(1, 2, 0)


def _open_as_training_does(data: bytes | memoryview) -> None:
    """ValueError where SceneData would refuse an image: its decoder is stricter than OpenCV."""
    image = open_image(data)
    image.part(0, 0, *image.size)


@lru_cache(1)
def _environment(source: str) -> Environment:
    return open_database(source, readahead=False)
