"""Message classes from a .proto file, built at import.

Reading the schema takes a few milliseconds and needs neither protoc nor generated code, so one
source serves every protobuf release.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .errors import ParseError
from .proto_file import parse


def export(path: Path, namespace: dict[str, Any]) -> None:
    """Define every message, enum and top-level enum value of a .proto file in `namespace`."""
    file = parse(path.read_text(), str(path))
    file.name = f"caffe/proto/{path.name}"
    export_file(file, namespace, path)


def export_file(
    file: descriptor_pb2.FileDescriptorProto, namespace: dict[str, Any], source: object
) -> None:
    """Define what a FileDescriptorProto holds in `namespace`; `source` names it in errors.

    The classes live in a descriptor pool of their own, so another package that also registers a
    file called caffe.proto does not collide with this one.
    """
    pool = descriptor_pool.DescriptorPool()
    try:
        pool.AddSerializedFile(file.SerializeToString())
        found = pool.FindFileByName(file.name)
    except (TypeError, ValueError, KeyError) as error:  # e.g. a default of the wrong type
        raise ParseError(f"{source}: {error}") from error
    namespace["DESCRIPTOR"] = found
    for message_name, message in found.message_types_by_name.items():
        namespace[message_name] = message_factory.GetMessageClass(message)
    for enum_name, enum in found.enum_types_by_name.items():
        namespace[enum_name] = EnumTypeWrapper(enum)
        namespace.update({value.name: value.number for value in enum.values})
