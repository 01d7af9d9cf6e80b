"""How an image file becomes like the records that a net was tested on.

RUN/run.json keeps it under "images", so that a run can classify without its database: gray,
height, width, short, encoding and keep_exif are convert_imageset's; rgb says that the records'
channels are in that order; known that the database says so, and it is not a guess.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from caffe_plain import images
from caffe_plain.database import open_database

from ..data_prep.colour_order import RGB, colour_order, settings_of

FIELDS = ("gray", "height", "width", "short", "encoding", "keep_exif")
Preparation = dict[str, Any]


def of_database(pb: Any, source: str) -> Preparation:
    """How the records of a database were made; pb: caffe_pb2.

    settings.json in it says so where convert_imageset wrote it. Of other databases an image gets
    the shorter side of the first record.
    """
    settings = settings_of(source)
    if "short" in settings:
        made = {name: settings.get(name, False) for name in FIELDS}
        return {**made, "rgb": colour_order(source) == RGB, "known": True}
    return _as_first_record(pb, source)


def first_shape(pb: Any, source: str) -> tuple[int, int, int]:
    """The height, width and channels of a database's first record; pb: caffe_pb2.

    Raises ValueError or DecodeError where it is no image.
    """
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        datum = pb.Datum.FromString(next(iter(transaction.cursor()))[1])
    if not datum.encoded:
        return datum.height, datum.width, datum.channels
    height, width, *channels = images.decode(datum.data, color=None).shape
    return height, width, channels[0] if channels else 1


def _as_first_record(pb: Any, source: str) -> Preparation:
    height, width, channels = first_shape(pb, source)
    order = colour_order(source)
    return {
        "gray": channels == 1,
        "height": 0,
        "width": 0,
        "short": min(height, width),
        "encoding": None,
        "keep_exif": False,
        "rgb": order == RGB,
        "known": order is not None,
    }
