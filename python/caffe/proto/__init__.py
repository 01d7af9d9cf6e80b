"""Caffe's messages, and `extend`, which adds a user's own to LayerParameter."""

import os
from pathlib import Path

from google.protobuf import descriptor_pb2

from caffe_plain.errors import DataError, ParseError
from caffe_plain.messages import make_messages
from caffe_plain.proto_file import Field, kinds, parse

from . import caffe_pb2, raw
from .forks import fork_messages, is_private

_sources = {}  # (kind, name or number) -> the file that added it


def extend(path: str | os.PathLike) -> None:
    """Add the messages of a .proto file, and its `extend LayerParameter` fields, to the schema.

        message GateParameter { optional float slope = 1 [default = 1]; }
        extend LayerParameter { optional GateParameter gate_param = 5000; }

    This replaces the classes in caffe.proto.caffe_pb2: call it before creating nets and messages.
    A definition takes the place of one that forks of Caffe have (forks.proto): register your layer.
    Reading the same definitions again changes nothing. Raises ParseError for text that cannot be
    parsed or collides with another definition, DataError if the file cannot be read.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    file = descriptor_pb2.FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    added = parse(text, str(path), kinds(file))
    if added.package not in ("", "caffe"):
        raise ParseError(f"{path}: package {added.package!r}; write package caffe, or none")
    layer = next(message for message in file.message_type if message.name == "LayerParameter")
    new = _merge(file.message_type, _qualified(added.message_type), path, "message")
    new += _merge(file.enum_type, added.enum_type, path, "enum")
    new += _add_fields(layer, _qualified_fields(added.extension), path)
    if new:
        vars(caffe_pb2).update(make_messages(file, path))
        _sources.update(dict.fromkeys(new, path))


def _qualified(messages):
    for message in messages:
        _qualified(message.nested_type)
        _qualified_fields(message.field)
    return messages


def _qualified_fields(fields):
    """A file without a package belongs to caffe's."""
    for field in fields:
        if field.type_name.startswith(".."):
            field.type_name = ".caffe" + field.type_name[1:]
    return fields


def _merge(present, added, path, kind):
    by_name, new = {item.name: item for item in present}, []
    for item in added:
        if item.name not in by_name:
            present.add().CopyFrom(item)
            new.append((kind, item.name))
        elif by_name[item.name] != item and item.name in fork_messages():
            by_name[item.name].CopyFrom(item)
            new.append((kind, item.name))
        elif by_name[item.name] != item:
            raise ParseError(
                f"{path}: {kind} {item.name!r} differs from the one in "
                f"{_sources.get((kind, item.name), 'caffe.proto')}; rename one"
            )
    return new


def _add_fields(layer, fields, path):
    new = []
    for field in fields:
        if field.extendee.split(".")[-1] != "LayerParameter":
            raise ParseError(
                f"{path}: extend {field.extendee}: only LayerParameter can be extended"
            )
        if raw.is_declared(field.name):
            raise ParseError(
                f"{path}: {field.name} is the raw block of a registered layer; register the layer "
                "without param, or choose another name"
            )
        field.ClearField("extendee")
        for other in [f for f in layer.field if f.name == field.name and is_private(f)]:
            if _differ(other, field):
                layer.field.remove(other)
        same = [f for f in layer.field if f.name == field.name or f.number == field.number]
        if any(_differ(other, field) for other in same):
            other = next(f for f in same if _differ(f, field))
            raise ParseError(
                f"{path}: {field.name} = {field.number} collides with {other.name} = "
                f"{other.number} of {_sources.get(('field', other.name), 'caffe.proto')}; "
                "choose another name or number"
            )
        if not same:
            layer.field.add().CopyFrom(field)
            new.append(("field", field.name))
    return new


def _differ(one: Field, other: Field) -> bool:
    """Whether two fields are not the same; what protobuf derives does not count."""
    return any(
        getattr(one, what) != getattr(other, what)
        for what in ("name", "number", "label", "type", "type_name", "default_value")
    )
