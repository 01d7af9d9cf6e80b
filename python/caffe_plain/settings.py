"""FIELD=VALUE: one field of a protobuf message set from a command line."""

from google.protobuf import text_format
from google.protobuf.message import Message

from .errors import ParseError, nearest


def apply_setting(message: Message, setting: str, flag: str, *others: Message) -> None:
    """Set one field of `message` from "field=value"; a list is written field=1,2,3.

    A list replaces what the field holds, and an empty value clears it.
    flag: the option that gave the setting, such as "-set", which the errors name; others: messages
    one of which may have the field if `message` has not.
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
    fields = message.DESCRIPTOR.fields_by_name
    message.ClearField(name)
    quote = '"' if fields[name].cpp_type == fields[name].CPPTYPE_STRING else ""
    try:
        for item in value.split(",") if value else ():
            text_format.Merge(f"{name}: {quote}{item}{quote}", message)
    except text_format.ParseError as error:
        raise ParseError(f"{flag} {setting}: {error}") from None
