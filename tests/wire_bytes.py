"""Protobuf's wire format by hand, so that tests can say every byte, right or wrong."""

import struct


def field(number, payload):
    """A length-delimited field; bytes or numbers that become varints."""
    if not isinstance(payload, bytes):
        payload = b"".join(varint(value) for value in payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    value %= 1 << 64
    data = b""
    while value >= 128:
        data, value = data + bytes([value % 128 + 128]), value // 128
    return data + bytes([value])


def floats(*numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def doubles(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


def unpacked(*numbers):
    return b"".join(b"\x2d" + floats(number) for number in numbers)


def shape(*dims):
    return field(7, field(1, list(dims)))


PAIR = field(5, floats(1, 2))


def model(*blobs, name=b"conv"):
    """A NetParameter with one layer that has these blobs."""
    return field(100, field(1, name) + b"".join(field(7, blob) for blob in blobs))
