"""Turn a .proto file (proto2; messages, enums, fields, defaults, packed) into a descriptor.

Reading the schema at import time takes a few milliseconds and needs neither protoc nor generated
code, so one source serves every protobuf release.
"""

import re

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_FIELD = re.compile(
    r"(optional|required|repeated)\s+([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(?:\[(.*?)\])?\s*;"
)
_BLOCK = re.compile(r"(message|enum)\s+(\w+)\s*\{")
_VALUE = re.compile(r"(\w+)\s*=\s*(-?\d+)\s*;")
_OPTION = re.compile(r'(default|packed)\s*=\s*("[^"]*"|[^,\s]+)')

Field = descriptor_pb2.FieldDescriptorProto


def export(path, namespace):
    """Define every message, enum and top-level enum value of a .proto file in `namespace`.

    They live in a descriptor pool of their own, so another package that also registers a file
    called caffe.proto does not collide with this one.
    """
    pool, name = descriptor_pool.DescriptorPool(), f"caffe/proto/{path.name}"
    pool.AddSerializedFile(parse(path.read_text(), name).SerializeToString())
    file = pool.FindFileByName(name)
    namespace["DESCRIPTOR"] = file
    for message_name, message in file.message_types_by_name.items():
        namespace[message_name] = message_factory.GetMessageClass(message)
    for enum_name, enum in file.enum_types_by_name.items():
        namespace[enum_name] = EnumTypeWrapper(enum)
        namespace.update({value.name: value.number for value in enum.values})


def parse(text, name):
    """The FileDescriptorProto of the .proto source `text`, to be registered under `name`."""
    text = re.sub(r"//[^\n]*", "", text)
    file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto2")
    file.package = re.search(r"package\s+(\w+)\s*;", text).group(1)
    position = text.index(";", text.index("package")) + 1
    while block := _BLOCK.search(text, position):
        container = file.message_type if block[1] == "message" else file.enum_type
        position = _parse_block(text, block, container)
    _resolve_types(file)
    return file


def _parse_block(text, block, container):
    """Add the message or enum that opens at `block` to `container`; return where it ends."""
    item = container.add(name=block[2])
    position = block.end()
    while True:
        position += len(text[position:]) - len(text[position:].lstrip())
        if text[position] == "}":
            return position + 1
        if nested := _BLOCK.match(text, position):
            inner = item.nested_type if nested[1] == "message" else item.enum_type
            position = _parse_block(text, nested, inner)
        elif block[1] == "enum":
            value = _VALUE.match(text, position)
            item.value.add(name=value[1], number=int(value[2]))
            position = value.end()
        else:
            field = _FIELD.match(text, position)
            _add_field(item, *field.groups())
            position = field.end()


def _add_field(message, label, type_name, name, number, options):
    field = message.field.add(name=name, number=int(number))
    field.label = getattr(Field, "LABEL_" + label.upper())
    primitive = getattr(Field, "TYPE_" + type_name.upper(), None)
    if primitive is None:
        field.type_name = type_name
    else:
        field.type = primitive
    for key, value in _OPTION.findall(options or ""):
        if key == "default":
            field.default_value = value.strip('"')
        else:
            field.options.packed = value == "true"


def _resolve_types(file):
    """Replace relative type names by full ones and tell enums from messages."""
    kinds = {}
    for enum in file.enum_type:
        kinds[enum.name] = Field.TYPE_ENUM
    for message in file.message_type:
        kinds[message.name] = Field.TYPE_MESSAGE
        for enum in message.enum_type:
            kinds[f"{message.name}.{enum.name}"] = Field.TYPE_ENUM
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                nested = f"{message.name}.{field.type_name}"
                full = nested if nested in kinds else field.type_name
                field.type = kinds[full]
                field.type_name = f".{file.package}.{full}"
