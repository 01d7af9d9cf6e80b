"""FIELD=VALUE: one field of a protobuf message set from a command line."""

import math
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from .errors import ParseError, nearest


def apply_setting(
    message: Message, setting: str, flag: str, *others: Message, clears_text: bool = False
) -> None:
    """Set one field of `message` from "field=value"; a list is written field=1,2,3.

    A list replaces what the field holds; without a value it is emptied. flag: the option that gave
    the setting, such as "-set", which the errors name; others: messages one of which may have the
    field if `message` has not; clears_text: whether a text without a value is cleared, too.
    Raises ParseError for an unknown field and for a value that the field cannot hold.
    """
    name, equals, value = setting.partition("=")
    messages = (message, *others)
    known = [field for one in messages for field in one.DESCRIPTOR.fields_by_name]
    if not equals or name not in known:
        raise ParseError(
            f"{flag} {setting}: expected FIELD=VALUE with a field of "
            f"{' or '.join(one.DESCRIPTOR.name for one in messages)}; {nearest(name, known)}"
        )
    message = next(one for one in messages if name in one.DESCRIPTOR.fields_by_name)
    before = getattr(message, name)
    is_list, is_text = hasattr(before, "extend"), isinstance(before, str)
    if not value and not (is_list or is_text and clears_text):
        raise ParseError(f"{flag} {setting}: no value; expected {name}=VALUE")
    message.ClearField(name)
    try:
        for item in value.split(",") if is_list and value else filter(None, [value]):
            message.MergeFrom(_with_field(type(message), name, item))
    except (text_format.ParseError, ValueError) as error:
        raise ParseError(f"{flag} {setting}: {error}") from None


def _with_field(kind: type[Message], name: str, value: str) -> Any:
    """A message with this field alone."""
    found = kind()
    field = kind.DESCRIPTOR.fields_by_name[name]
    quotes = field.cpp_type == field.CPPTYPE_STRING
    text_format.Merge(f"{name}: {_quoted(value) if quotes else value}", found)
    if [each.name for each, _ in found.ListFields()] != [name]:
        raise ValueError("expected one value of one field")
    held = getattr(found, name)
    if isinstance(held, float) and math.isnan(held):
        raise ValueError("expected a number")
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
