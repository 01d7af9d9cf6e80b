"""Message classes from a .proto file, built at import.

Reading the schema takes a few milliseconds and needs neither protoc nor generated code, so one
source serves every protobuf release from 3.12 on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .errors import ParseError
from .proto_file import parse


def read_messages(path: Path) -> dict[str, Any]:
    """Every message, enum and top-level enum value of a .proto file, by name; its DESCRIPTOR too.

    Raises ParseError, with the line, for what it cannot read.
    """
    file = parse(path.read_text(encoding="utf-8"), str(path))
    file.name = f"{file.package}/{path.name}"
    return make_messages(file, path)


def make_messages(file: FileDescriptorProto, source: str | os.PathLike) -> dict[str, Any]:
    """The same of a FileDescriptorProto; `source` names it in errors.

    The classes live in a descriptor pool of their own, so another package that also registers a
    file called caffe.proto does not collide with this one.
    """
    pool = descriptor_pool.DescriptorPool()
    try:
        pool.AddSerializedFile(file.SerializeToString())
        found = pool.FindFileByName(file.name)
    except (TypeError, ValueError, KeyError) as error:  # e.g. a default of the wrong type
        raise ParseError(f"{source}: {error}") from error
    if hasattr(message_factory, "GetMessageClass"):
        class_of = message_factory.GetMessageClass
    else:  # protobuf before 4.22
        class_of = message_factory.MessageFactory(pool).GetPrototype
    names = {"DESCRIPTOR": found}
    for name, message in found.message_types_by_name.items():
        names[name] = class_of(message)
    for name, enum in found.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enum)
        names.update((value.name, value.number) for value in enum.values)
    return names
