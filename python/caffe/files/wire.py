"""Protobuf's wire format: large messages read in place and written in pieces.

protobuf itself stops at 2 GiB and holds every float twice while it parses. Here Python only walks
the framing: the long packed arrays of a BlobProto are read in place in the file, and all its other
bytes go to protobuf.
"""

from math import prod

import numpy as np
from google.protobuf.message import DecodeError

from ..proto import caffe_pb2

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
_MAX_AXES = 32  # Caffe's kMaxBlobAxes
_MAX_SHAPE_BYTES = _MAX_AXES * 11  # a tag and a varint for each axis
_MOST_MESSAGES = 1 << 17  # in one file; even an empty one takes memory

# Number of a packed BlobProto field: the dtype of its items.
_ARRAYS = {5: "<f4", 6: "<f4", 8: "<f8", 9: "<f8"}
_LEGACY_SHAPE = ("num", "channels", "height", "width")


class WireError(ValueError):
    """Bytes that are not the message they should be; `offset` counts from the file's start."""

    def __init__(self, what, offset):
        super().__init__(what)
        self.offset = offset

    def inside(self, where):
        """The same error with the name of the place around it."""
        return WireError(f"{where}: {self}", self.offset)


# ---- reading ---------------------------------------------------------------------------------


def fields(buffer, start, end):
    """Yield (number, wire type, payload start, payload end) of each field of a message."""
    while start < end:
        tag, begin = _varint(buffer, start, end)
        number, kind = tag >> 3, tag & 7
        if kind == DELIMITED:
            size, begin = _varint(buffer, begin, end)
            stop = begin + size
        elif kind == VARINT:
            stop = _varint(buffer, begin, end)[1]
        elif kind in _FIXED_BYTES:
            stop = begin + _FIXED_BYTES[kind]
        else:
            raise WireError(f"wire type {kind}, which Caffe never writes", start)
        if not number:
            raise WireError("field number 0", start)
        if stop > end:
            raise WireError(
                f"field {number} is {stop - begin:,} bytes long, {end - begin:,} are left", start
            )
        yield number, kind, begin, stop
        start = stop


def _varint(buffer, position, end):
    """The varint at `position`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise WireError("a number is cut off", position)
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError("a number of more than 10 bytes", position - 10)


def check_messages(buffer, start, end, descriptor, budget=None):
    """Refuse a message that holds more messages, at any depth, than any net has."""
    budget = budget or iter(range(_MOST_MESSAGES))
    for number, kind, begin, stop in fields(buffer, start, end):
        field = descriptor.fields_by_number.get(number)
        if kind == DELIMITED and field and field.message_type:
            if next(budget, None) is None:
                raise WireError(f"more than {_MOST_MESSAGES:,} messages in it", begin)
            if field.message_type.name == "BlobShape":
                _check_shape(begin, stop)
            check_messages(buffer, begin, stop, field.message_type, budget)


def _check_shape(start, end):
    """Refuse a BlobShape of too many axes before it is parsed: 8 bytes for each of them."""
    if end - start > _MAX_SHAPE_BYTES:
        raise WireError(f"a shape of {end - start:,} bytes, more than {_MAX_AXES} axes", start)


def read_blob(buffer, start, end, want_diff=False):
    """The data of the BlobProto in buffer[start:end] as a float32 array, if possible a view.

    With `want_diff`, the pair of it and the diff (None where the file has none). A blob in the
    old form with num, channels, height and width keeps these four axes.
    """
    spans, rest = _split_blob(buffer, start, end)
    shape = _shape(rest, start)
    data = _array(buffer, spans, rest, ("double_data", "data"), shape, start)
    if data is None:
        raise WireError(f"shape {shape}, but no data", start)
    if not want_diff:
        return data
    return data, _array(buffer, spans, rest, ("double_diff", "diff"), shape, start)


def _split_blob(buffer, start, end):
    """The first packed span of each array, and a BlobProto of all other bytes.

    The rest includes whatever else protobuf allows: unpacked items, arrays in several spans.
    """
    spans, rest, position = {}, bytearray(), start
    for number, kind, begin, stop in fields(buffer, start, end):
        if number in _ARRAYS and (number in spans or kind != DELIMITED):
            rest += buffer[position:end]
            break
        if number == 7:
            _check_shape(begin, stop)
        if number in _ARRAYS:
            spans[number] = (begin, stop)
        else:
            rest += buffer[position:stop]
        position = stop
    return spans, parse(caffe_pb2.BlobProto, rest, start)


def parse(message_type, data, offset):
    """The message in `data`, which is at `offset` in the file."""
    try:
        return message_type.FromString(bytes(data))
    except DecodeError as error:
        raise WireError(f"not a {message_type.DESCRIPTOR.name}: {error}", offset) from None


def _shape(blob, offset):
    if any(map(blob.HasField, _LEGACY_SHAPE)):
        shape = tuple(getattr(blob, name) for name in _LEGACY_SHAPE)
    else:
        shape = tuple(blob.shape.dim[: _MAX_AXES + 1])
    if len(shape) > _MAX_AXES:
        raise WireError(f"{len(blob.shape.dim):,} axes, more than {_MAX_AXES}", offset)
    if min(shape, default=0) < 0:
        raise WireError(f"shape {shape} has a negative dimension", offset)
    return shape


def _array(buffer, spans, rest, names, shape, offset):
    """The first of the two named arrays that has items, as float32; None if both are empty."""
    for name in names:
        number = rest.DESCRIPTOR.fields_by_name[name].number
        begin, stop = spans.get(number, (0, 0))
        dtype, more = np.dtype(_ARRAYS[number]), getattr(rest, name)
        if (stop - begin) % dtype.itemsize:
            raise WireError(
                f"{name} of {stop - begin:,} bytes, not a multiple of {dtype.itemsize}", begin
            )
        packed = np.frombuffer(buffer, dtype, (stop - begin) // dtype.itemsize, begin)
        if packed.size or len(more):
            return _joined(packed, more, shape, offset)
    return np.empty(shape, np.float32) if 0 in shape else None


def _joined(packed, more, shape, offset):
    size, count = packed.size + len(more), prod(shape)
    if size != count:
        raise WireError(f"shape {shape} has {count:,} values, {size:,} are there", offset)
    if not len(more) and packed.dtype == np.float32:
        return packed.reshape(shape)
    array = np.empty(shape, np.float32)
    flat = array.reshape(-1)
    with np.errstate(over="ignore"):  # a double too large for a float becomes inf, as in C
        flat[: packed.size] = packed
        flat[packed.size :] = np.fromiter(more, np.float64, len(more))
    return array


# ---- writing ---------------------------------------------------------------------------------
# A message is a list of pieces: bytes, and arrays that become packed floats when they are
# written. Its size is known before any array is touched.


def size_bytes(pieces):
    """How many bytes the pieces take in a file."""
    return sum(4 * piece.size if isinstance(piece, np.ndarray) else len(piece) for piece in pieces)


def buffers(pieces):
    """Yield each piece as the bytes that go into the file."""
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            yield np.ascontiguousarray(piece, "<f4").reshape(-1).view(np.uint8).data
        else:
            yield piece


def delimited(number, pieces):
    """The pieces as the payload of field `number`."""
    return [_encode(number << 3 | DELIMITED) + _encode(size_bytes(pieces)), *pieces]


def blob_pieces(data, diff=None):
    """A BlobProto of `data` and, unless it is None, `diff`, in Caffe's order of fields."""
    shape = caffe_pb2.BlobShape(dim=data.shape) if data.shape else None
    return _with_arrays(caffe_pb2.BlobProto(shape=shape), data, diff)


def legacy_blob_pieces(data):
    """A BlobProto of four axes, in the form of Caffe's mean images."""
    header = caffe_pb2.BlobProto(**dict(zip(_LEGACY_SHAPE, data.shape, strict=True)))
    return _with_arrays(header, data, None)


def _with_arrays(header, data, diff):
    arrays = delimited(5, [np.asarray(data)]) if data.size else []
    if diff is not None and diff.size:
        arrays += delimited(6, [np.asarray(diff)])
    return insert_field(header, 6, arrays)


def insert_field(message, number, pieces):
    """The serialised `message` with `pieces`, fields of that number, inserted in order."""
    data = message.SerializeToString()
    later = (start for found, start in _starts(data) if found > number)
    place = next(later, len(data))
    return [data[:place], *pieces, data[place:]]


def _starts(data):
    start = 0
    for number, _, _, stop in fields(data, 0, len(data)):
        yield number, start
        start = stop


def _encode(value):
    """`value` as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
