"""A schema continued in a second file: messages of the same name get more fields and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from caffe_plain.messages import make_messages
from caffe_plain.proto_file import kinds, parse


def read_continued(first: Path, second: Path) -> dict[str, Any]:
    """As `caffe_plain.messages.read_messages`, of the file `first` continued by `second`.

    Raises ParseError where the two define the same field or enum value.
    """
    file = parse(first.read_text(encoding="utf-8"), str(first))
    more = parse(second.read_text(encoding="utf-8"), str(second), kinds(file))
    _continue(file, more, ("message_type", "enum_type"))
    file.name = f"{file.package}/{first.name}"
    return make_messages(file, second)


def _continue(present: FileDescriptorProto, more: FileDescriptorProto, lists: tuple) -> None:
    """Add the items of each of the `lists`; an item that is there already is itself continued."""
    for name in lists:
        items = getattr(present, name)
        by_name = {item.name: item for item in items}
        for item in getattr(more, name):
            if name == "message_type" and item.name in by_name:
                _continue(by_name[item.name], item, ("field", "nested_type", "enum_type"))
            elif name == "enum_type" and item.name in by_name:
                by_name[item.name].value.extend(item.value)
            else:
                items.add().CopyFrom(item)
