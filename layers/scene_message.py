"""SceneDataParameter: what the param_str of a SceneData layer holds, in protobuf's text format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe_plain.messages import read_messages

from .errors import SceneError

SceneDataParameter = read_messages(Path(__file__).with_name("scene_data.proto"))[
    "SceneDataParameter"
]


def parse_options(text: str) -> Any:
    """The SceneDataParameter in a param_str, checked."""
    options = read_options(text)
    problem = next(_problems(options), None)
    if problem:
        raise SceneError(f"param_str: {problem}")
    return options


def read_options(text: str) -> Any:
    """The SceneDataParameter in a param_str, whatever its fields hold."""
    options = SceneDataParameter()
    try:
        text_format.Merge(text, options)
    except text_format.ParseError as error:
        known = ", ".join(field.name for field in SceneDataParameter.DESCRIPTOR.fields)
        raise SceneError(f"param_str: {error}; its fields are {known}") from None
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
    for name in ("mixup_alpha", "cutmix_alpha"):
        if getattr(options, name) < 0:
            yield f"{name} {getattr(options, name):g}: expected 0 (none) or more"
    if options.ahead < 1:
        yield "ahead 0: expected 1 or more batches"
