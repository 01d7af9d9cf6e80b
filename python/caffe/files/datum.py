"""Datum, the record of Caffe's LMDBs, to pixels: raw bytes, floats, or an encoded image file."""

import numpy as np
from google.protobuf.message import DecodeError

from caffe_plain import images
from caffe_plain.errors import DataError

from ..proto import caffe_pb2


def parse_datum(record, key):
    """The Datum in the bytes `record`, which are stored under `key` in their database."""
    try:
        return caffe_pb2.Datum.FromString(record)
    except DecodeError as error:
        raise DataError(
            f"record {_name(key)}: {len(record)} bytes that are not a Datum; the "
            "database is damaged or holds something else: convert it again"
        ) from error


def decode_datum(datum, key, color=None):
    """The pixels of a Datum (or of its serialized bytes) as (C, H, W), uint8 or float32.

    key: the record's key, for messages. An encoded image is decoded as OpenCV does, in BGR order;
    color: None keeps its own channels, True makes three of them (force_color), False one
    (force_gray); as in BVLC Caffe, only these two turn a photo as its orientation says. Raw
    pixels and floats are returned as they are stored; `color` does not apply.
    The array may be a read-only view of the Datum.
    """
    if isinstance(datum, (bytes, bytearray, memoryview)):
        datum = parse_datum(datum, key)
    if datum.encoded:
        return _decode_image(datum, key, color)
    data = datum.data  # once, because protobuf copies it every time
    if len(data) and len(datum.float_data):
        raise DataError(f"record {_name(key)}: holds both data and float_data; expected one")
    if len(datum.float_data):
        values = np.array(datum.float_data, dtype=np.float32)
    else:
        values = np.frombuffer(data, dtype=np.uint8)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"record {_name(key)}: channels, height, width say {shape}, but it holds "
            f"{values.size} values; the record is damaged: convert it again"
        )
    return values.reshape(shape)


def _decode_image(datum, key, color):
    try:  # NOTE: BVLC Caffe turns photos upright only where the channels are forced
        image = images.decode(datum.data, color, upright=color is not None)
    except ValueError as error:
        raise DataError(
            f"record {_name(key)}: {error}; the record is damaged: convert it again"
        ) from error
    if image.dtype != np.uint8:
        raise DataError(
            f"record {_name(key)}: expected an image of 8 bits per channel, found {image.dtype}; "
            "give the layer transform_param { force_color: true } (and compute_image_mean "
            "--force_color), or convert it again without -encoded"
        )
    if image.ndim == 2:
        return image[np.newaxis]
    return image.transpose(2, 0, 1)


def _name(key):
    return repr(key.decode("utf-8", "replace") if isinstance(key, bytes) else key)
