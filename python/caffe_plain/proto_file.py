"""Read a .proto file (proto2: messages, enums, fields, defaults, packed, extend).

What it cannot read is a ParseError that names the file and the line.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2

from .errors import ParseError, nearest

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"|(?P<word>-?[\w.+]+(?:(?<=[eE])-\d+)?|-)|(?P<sign>[{}=;\[\],()<>])",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_UNREAD = ("service", "rpc", "oneof", "map", "group", "export", "edition")
_LABELS = ("optional", "required", "repeated")
_LARGEST = (1 << 29) - 1  # field number

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    name[5:].lower(): number
    for name, number in Field.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}


def parse(
    text: str, name: str, known: dict[str, int] | None = None
) -> descriptor_pb2.FileDescriptorProto:
    """The FileDescriptorProto of the .proto source `text`; `name` names it in errors.

    known: {full name without package: TYPE_MESSAGE or TYPE_ENUM} of types from elsewhere.
    """
    return _Parser(text, name).file(known or {})


def kinds(file: descriptor_pb2.FileDescriptorProto) -> dict[str, int]:
    """{full name without package: TYPE_MESSAGE or TYPE_ENUM} of what a file defines."""
    found = {enum.name: Field.TYPE_ENUM for enum in file.enum_type}
    for message in file.message_type:
        found.update(_kinds_within(message, message.name))
    return found


def _kinds_within(message: Any, scope: str) -> dict[str, int]:
    found = {scope: Field.TYPE_MESSAGE}
    found.update((f"{scope}.{enum.name}", Field.TYPE_ENUM) for enum in message.enum_type)
    for inner in message.nested_type:
        found.update(_kinds_within(inner, f"{scope}.{inner.name}"))
    return found


class _Parser:
    """Tokens of one file, read from front to back."""

    def __init__(self, text: str, name: str):
        self.name, self.position = name, 0
        self.tokens: list[tuple[str, int]] = []  # and their lines
        self.to_resolve: list[tuple[Any, str, int]] = []  # (field, the message it stands in, line)
        self._split(text)

    def _split(self, text: str) -> None:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise ParseError(f"{self.name}:{line}: unexpected {text[position]!r}")
            if match.lastgroup != "skip":
                self.tokens.append((match[0], line))
            line, position = line + match[0].count("\n"), match.end()
        self.tokens.append(("", line))

    # ---- tokens ------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return self.tokens[self.position][0]

    @property
    def line(self) -> int:
        return self.tokens[self.position][1]

    def error(self, what: str, line: int | None = None) -> ParseError:
        return ParseError(f"{self.name}:{line or self.line}: {what}")

    def take(self, *expected: str) -> str:
        """The next token, which must be one of `expected` where any are given."""
        token = self.token
        if not token or (expected and token not in expected):
            wanted = " or ".join(map(repr, expected)) or "more"
            raise self.error(f"expected {wanted}; found {token or 'the end of the file'!r}")
        self.position += 1
        return token

    def take_name(self) -> str:
        if not _NAME.fullmatch(self.token):
            raise self.error(f"expected a name; found {self.token or 'the end of the file'!r}")
        return self.take()

    def take_number(self, lowest: int, highest: int) -> int:
        token = self.token
        try:
            number = int(token, 0)
        except ValueError:
            raise self.error(
                f"expected a number; found {token or 'the end of the file'!r}"
            ) from None
        if not lowest <= number <= highest:
            raise self.error(f"the number {number} is outside {lowest} to {highest}")
        self.position += 1
        return number

    def skip_statement(self) -> None:
        while self.take() != ";":
            if self.token in ("{", "}"):
                raise self.error("expected ';'")

    # ---- statements --------------------------------------------------------------------------

    def file(self, known: dict[str, int]) -> descriptor_pb2.FileDescriptorProto:
        file = descriptor_pb2.FileDescriptorProto(name=self.name, syntax="proto2")
        while self.token:
            self._statement(file)
        found = {**known, **kinds(file)}
        for field, scope, line in self.to_resolve:
            self._resolve(field, scope, line, file.package, found)
        return file

    def _statement(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        word = self.take()
        if word == "syntax":
            self.take("=")
            self.take('"proto2"', "'proto2'")
            self.take(";")
        elif word == "package":
            file.package = self.take_name()
            self.take(";")
        elif word in ("import", "option"):
            self.skip_statement()
        elif word == "message":
            self._message(file.message_type, "")
        elif word == "enum":
            self._enum(file.enum_type)
        elif word == "extend":
            self._extend(file.extension)
        elif word != ";":
            self.position -= 1
            raise self._unread(word)

    def _unread(self, word: str) -> ParseError:
        if word in _UNREAD:
            return self.error(f"{word!r} is not supported here; use messages, enums and fields")
        return self.error(f"expected a statement; found {word or 'the end of the file'!r}")

    def _new(self, container: Any) -> Any:
        line, name = self.line, self.take_name()
        if any(item.name == name for item in container):
            raise self.error(f"{name!r} is defined twice", line)
        self.take("{")
        return container.add(name=name)

    def _message(self, container: Any, scope: str) -> None:
        message = self._new(container)
        scope = f"{scope}.{message.name}".lstrip(".")
        while self.token != "}":
            word = self.token
            if word in _LABELS:
                self._field(message.field, scope)
            elif word == "message":
                self.take()
                self._message(message.nested_type, scope)
            elif word == "enum":
                self.take()
                self._enum(message.enum_type)
            elif word in ("option", "reserved", "extensions"):
                self.skip_statement()
            elif self.take() != ";":
                self.position -= 1
                raise self._unread(word)
        self.take("}")

    def _enum(self, container: Any) -> None:
        enum = self._new(container)
        while self.token != "}":
            if self.token in ("option", "reserved"):
                self.skip_statement()
                continue
            line, name = self.line, self.take_name()
            if any(value.name == name for value in enum.value):
                raise self.error(f"{enum.name}.{name} is defined twice", line)
            self.take("=")
            enum.value.add(name=name, number=self.take_number(-(1 << 31), (1 << 31) - 1))
            self.take(";")
        if not enum.value:
            raise self.error(f"the enum {enum.name!r} has no values")
        self.take("}")

    def _extend(self, container: Any) -> None:
        extendee = self.take()
        self.take("{")
        while self.token != "}":
            if self.token not in _LABELS:
                raise self._unread(self.token)
            self._field(container, "").extendee = extendee
        self.take("}")

    def _field(self, container: Any, scope: str) -> Any:
        line, label, kind = self.line, self.take(), self.take()
        if kind in _UNREAD:
            self.position -= 1
            raise self._unread(kind)
        name = self.take_name()
        self.take("=")
        number = self.take_number(1, _LARGEST)
        for other in container:
            if name == other.name or number == other.number:
                raise self.error(
                    f"{name} = {number} collides with {other.name} = {other.number}", line
                )
        field = container.add(name=name, number=number)
        field.label = getattr(Field, "LABEL_" + label.upper())
        if kind in SCALARS:
            field.type = SCALARS[kind]
        else:
            field.type_name = kind
            self.to_resolve.append((field, scope, line))
        if self.token == "[":
            self._options(field)
        self.take(";")
        return field

    def _options(self, field: Any) -> None:
        while self.take("[", ",", "]") != "]":
            name = self.take_name()
            self.take("=")
            value = self.take()
            if name == "default":
                field.default_value = value[1:-1] if value[0] in "\"'" else value
            elif name == "packed":
                field.options.packed = value == "true"
            elif name != "deprecated":
                raise self.error(f"the field option {name!r} is not supported here")
            if self.token not in (",", "]"):
                raise self.error(f"expected ',' or ']'; found {self.token!r}")

    def _resolve(
        self, field: Any, scope: str, line: int, package: str, found: dict[str, int]
    ) -> None:
        """Give a field the full name and kind of its type, looked up from the inside out."""
        wanted = field.type_name.lstrip(".")
        if package:
            wanted = wanted.removeprefix(f"{package}.")
        scopes = scope.split(".") if scope else []
        for depth in range(len(scopes), -1, -1):
            full = ".".join([*scopes[:depth], wanted])
            if full in found:
                field.type, field.type_name = found[full], f".{package}.{full}"
                return
        raise self.error(
            f"field {field.name!r}: unknown type {field.type_name!r}; {nearest(wanted, found)}",
            line,
        )
