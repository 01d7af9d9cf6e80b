"""What is known about forks of Caffe: whose a name is, and which fields a layer must understand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

from . import caffe_pb2

_FIRST = 70001  # from here on numbers are private: what only some forks have


@cache
def _table() -> dict[str, str]:
    """forks.tsv: {field of LayerParameter, message, or message.field: forks}."""
    found = {}
    for line in Path(__file__).with_name("forks.tsv").read_text().splitlines():
        if not line.startswith("#"):
            field, message, forks = line.split("\t")
            found[field] = forks
            found.setdefault(message, forks)
    return found


def known_from(name: str) -> str:
    """A sentence that says which forks have a field, message or type; "" where none is known.

    name: a field of LayerParameter, `Message.field`, or a layer's type.
    """
    forks = _table().get(name) or _table().get(f"{name}Parameter")
    return f"{name} is known from {forks}" if forks else ""


@cache
def fork_messages() -> frozenset[str]:
    """The messages of forks that Caffe does not have."""
    ours, caffes = (
        re.findall(r"^message (\w+)", Path(__file__).with_name(name).read_text(), re.M)
        for name in ("forks.proto", "caffe.proto")
    )
    return frozenset(ours) - frozenset(caffes)


@cache
def _foreign(file: FileDescriptor) -> frozenset[str]:
    """What only layers of unsupported types have: a name of forks that is no field in `file`."""
    fields = {name for m in file.message_types_by_name.values() for name in m.fields_by_name}
    return frozenset(name for name in _table() if name.islower() and name not in fields)


def foreign_blocks() -> frozenset[str]:
    """The blocks of layers that forks of Caffe have, and the schema does not."""
    return _foreign(caffe_pb2.DESCRIPTOR)


def is_private(field: FieldDescriptor) -> bool:
    """Whether Caffe does not have a field, and not all forks that have its message do."""
    return _FIRST <= field.number < _FIRST + 1000


def private_fields(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every set field of `message`, at any depth, that is private, with the message it is in."""
    for field, value in message.ListFields():
        if is_private(field):
            yield message, field
        if field.message_type and field.message_type.name != "BlobProto":
            for item in value if hasattr(value, "add") else (value,):
                yield from private_fields(item)


def not_understood(layer: caffe_pb2.LayerParameter, understood: tuple[str, ...]) -> list[str]:
    """The private fields that change what `layer` computes and are not in `understood`.

    A field of LayerParameter itself belongs to another type, which Caffe ignores; so does one that
    holds its default.
    """
    return [
        f"{message.DESCRIPTOR.name}.{field.name}"
        for message, field in private_fields(layer)
        if message is not layer and field.name not in understood and not _is_default(message, field)
    ]


def _is_default(message: Message, field: FieldDescriptor) -> bool:
    return not field.message_type and getattr(message, field.name) == getattr(
        type(message)(), field.name
    )
