"""Runs of records, read back and decoded in worker processes: for check_database.py."""

import zlib
from collections import namedtuple
from functools import lru_cache

from caffe_plain.database import open_database
from relaybp.data_prep.images import check_image
from relaybp.layers.datum import raw_shape, read_datum
from relaybp.layers.images import open_image

# label: None if unknown; shape: (C, H, W), or None; reason: what is wrong, or None
Checked = namedtuple("Checked", "key label checksum shape reason")


def check_run(source, run):
    """The Checked of each record of a run, (its first key, number of records)."""
    first, count = run
    with _environment(source).begin(buffers=True) as transaction, transaction.cursor() as cursor:
        cursor.set_range(first)
        return [
            Checked(bytes(key), *check_record(record))
            for _, (key, record) in zip(range(count), cursor, strict=False)
        ]


def check_record(record):
    """The label, the checksum, the shape and what is wrong with it, of a record's bytes."""
    checksum = zlib.crc32(record)
    try:
        datum = read_datum(record)
    except ValueError as error:
        return None, checksum, None, str(error)
    found = _shape(datum, record)
    shape, reason = (None, found) if isinstance(found, str) else (found, None)
    return datum.label, checksum, shape, reason


def _shape(datum, record):
    """The shape (C, H, W) of what a Datum holds, or what is wrong with it."""
    if datum.encoded:
        found = check_image(datum.data)
        return found if isinstance(found, str) else _refused(datum.data) or found
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


def _refused(data):
    """Why training would refuse an image file, or None: its decoder is stricter than OpenCV."""
    try:
        image = open_image(data)
        image.part(0, 0, *image.size)
    except ValueError as error:
        return str(error)
    return None


@lru_cache(1)
def _environment(source):
    return open_database(source, readahead=False)
