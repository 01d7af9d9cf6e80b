"""SceneDataParameter: what the param_str of a SceneData layer holds, in protobuf's text format.

The message is built at import, so any protobuf from 3.12 on reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from .errors import SceneError

# number, field, type, default; [] makes it repeated. layers/README.md says what each means.
FIELDS = [
    (1, "source", "string", ""),
    (2, "batch_size", "uint32", "0"),
    (3, "class_aware", "bool", "false"),
    (4, "shuffle", "bool", "false"),
    (5, "crop_size", "uint32", "0"),
    (6, "mirror", "bool", "false"),
    (7, "pad", "uint32", "0"),
    (8, "mean_file", "string", ""),
    (9, "mean_value", "float", []),
    (10, "scale", "float", "1"),
    (11, "color_file", "string", ""),
    (12, "color_deviation", "float", "0.1"),
    (13, "short_side_min", "uint32", "0"),
    (14, "short_side_max", "uint32", "0"),
    (15, "area_min", "float", "0"),
    (16, "area_max", "float", "1"),
    (17, "aspect_max", "float", "1.3333333"),
    (18, "reduced_decode", "bool", "false"),
    (19, "skip_damaged", "bool", "false"),
    (20, "seed", "uint64", "0"),
    (21, "workers", "uint32", "0"),
    (22, "ahead", "uint32", "3"),
]


def _message_class() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="layers/scene_data.proto", package="layers", syntax="proto2"
    )
    message = file.message_type.add(name="SceneDataParameter")
    for number, name, kind, default in FIELDS:
        field = message.field.add(
            name=name, number=number, type=getattr(kinds, "TYPE_" + kind.upper())
        )
        field.label = kinds.LABEL_REPEATED if default == [] else kinds.LABEL_OPTIONAL
        if default != []:
            field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("layers.SceneDataParameter")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


SceneDataParameter = _message_class()


def parse_options(text: str) -> Any:
    """The SceneDataParameter in a param_str, checked."""
    options = SceneDataParameter()
    try:
        text_format.Merge(text, options)
    except text_format.ParseError as error:
        known = ", ".join(field[1] for field in FIELDS)
        raise SceneError(f"param_str: {error}; its fields are {known}") from None
    problem = next(_problems(options), None)
    if problem:
        raise SceneError(f"param_str: {problem}")
    return options


def _problems(options: Any) -> Iterator[str]:
    if not options.source or not options.batch_size:
        yield "source (the LMDB's folder) and batch_size must be given"
    if options.class_aware and options.shuffle:
        yield "class_aware and shuffle exclude each other; class-aware draws are shuffled anyway"
    if options.mean_file and options.mean_value:
        yield "mean_file and mean_value exclude each other; give one"
    jitter = options.short_side_min or options.short_side_max
    if jitter and not options.crop_size <= options.short_side_min <= options.short_side_max:
        yield (
            f"short_side_min {options.short_side_min}, short_side_max {options.short_side_max}: "
            f"expected crop_size {options.crop_size} <= short_side_min <= short_side_max"
        )
    if options.area_min and not 0 < options.area_min <= options.area_max <= 1:
        yield (
            f"area_min {options.area_min:g}, area_max {options.area_max:g}: expected "
            "0 < area_min <= area_max <= 1, shares of the image's area"
        )
    if options.aspect_max < 1:
        yield f"aspect_max {options.aspect_max:g}: expected 1 or more"
    several = [
        name
        for name, used in (
            ("pad", options.pad),
            ("short_side_min", jitter),
            ("area_min", options.area_min),
        )
        if used
    ]
    if len(several) > 1:
        yield f"{' and '.join(several)} exclude each other; give one"
    if several and not options.crop_size:
        yield f"{several[0]} needs crop_size, the size of what is cut"
    if options.ahead < 1:
        yield "ahead 0: expected 1 or more batches"
