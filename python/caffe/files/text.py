"""Prototxts and binary messages, read with errors that say where, what and how to fix it."""

from __future__ import annotations

import codecs
import os
import re
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from caffe_plain import python_layers
from caffe_plain.errors import ParseError, nearest
from caffe_plain.files import write_atomically

from ..proto import caffe_pb2, raw
from ..proto.forks import known_from
from . import wire
from .forks import drop_misread
from .spelling import respell
from .upgrade import upgrade_net, upgrade_solver

_Message = TypeVar("_Message", bound=Message)

# What protobuf says about a token, and the cure; the first match counts.
_CURES = [
    (r"Expected string", "put text in quotes"),
    (r"missing ending quote", "close the quote on the same line"),
    (r'Expected "}"', "a closing } is missing here or further up"),
    (r'Expected "\{"', "a message is written as name { ... }"),
    (r'Expected ":"', "a value is written as name: value"),
    (r"got }", "there is one } too many"),
    (r"should not have multiple", "keep one of them"),
    (r"Couldn't parse integer", "write a whole number, without point or exponent"),
    (r"Couldn't parse float", "write a number"),
    (r"Value out of range", "the field holds only smaller or non-negative numbers"),
    (r"true.*false", "write true or false"),
    (r"can't decode", "write text in UTF-8"),
]

# A comment, or a string that may itself hold a #.
_COMMENT = re.compile(rb"""(?P<text>"(\\.|[^"\\\n])*"|'(\\.|[^'\\\n])*')|#[^\n]*""")


def read_net(net: str | os.PathLike | caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """The current form of `net`, a prototxt's path or a NetParameter (which stays as it is)."""
    if isinstance(net, caffe_pb2.NetParameter):
        return upgrade_net(net)
    param = _upgraded(upgrade_net, read_text(net, caffe_pb2.NetParameter()), net)
    python_layers.admit(param, net)
    return param


def read_solver(path: str | os.PathLike) -> caffe_pb2.SolverParameter:
    """The SolverParameter in the prototxt at `path`, in its current form.

    As in Caffe, snapshots go to the solver's own path without its extension unless
    snapshot_prefix says otherwise, and a folder as prefix gets the solver's name appended.
    """
    solver = read_text(path, caffe_pb2.SolverParameter())
    solver = _upgraded(upgrade_solver, solver, path)
    for net in (solver.net_param, solver.train_net_param, *solver.test_net_param):
        python_layers.admit(net, path)
    stem = os.path.splitext(os.fspath(path))[0]
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = stem
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(stem))
    return solver


def read_text(path: str | os.PathLike, message: _Message) -> _Message:
    """Fill `message` from the text-format file at `path`; return it."""
    data = _content(path)
    if b"\0" in data:
        raise ParseError(
            f"{path}: a binary file, where a text file (prototxt) is expected; "
            "weights are given as .caffemodel, not as a net"
        )
    return parse_text(_decoded(data, path), message, path)


def parse_text(text: str, message: _Message, source: str | os.PathLike = "text") -> _Message:
    """Fill `message` from `text`; `source` names it in errors. Return the message."""
    if not re.sub(r"#.*", "", text).strip():
        raise ParseError(f"{source}: empty; expected a {message.DESCRIPTOR.name} in text format")
    try:
        text_format.Parse(raw.fold(respell(text)), message)
    except text_format.ParseError as error:
        where = f"{source}:{error.GetLine()}:{error.GetColumn()}"
        raise ParseError(f"{where}: {_explain(str(error), message.DESCRIPTOR)}") from None
    return _complete(message, source)


def read_binary(path: str | os.PathLike, message: _Message) -> _Message:
    """Fill `message` from the binary file at `path`; return it."""
    data = _content(path)
    try:
        wire.check_messages(data, 0, len(data), message.DESCRIPTOR)
        message.ParseFromString(data)
    except (wire.WireError, DecodeError) as error:
        hint = "a text file?" if b"\0" not in data else "damaged or cut short?"
        raise ParseError(
            f"{path}: not a binary {message.DESCRIPTOR.name} ({error}); {hint}"
        ) from None
    if isinstance(message, caffe_pb2.NetParameter):
        drop_misread(message)
    return _complete(message, path)


def write_text(path: str | os.PathLike, message: Message) -> None:
    """Write `message` to `path` in text format, completely or not at all."""
    data = text_format.MessageToString(message, as_utf8=True).encode()
    write_atomically(path, data)


def _content(path):
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise ParseError(f"expected the path of a file; found {path!r}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ParseError(
            f"{path}: cannot be read: {error.strerror}; the current folder is {os.getcwd()}"
        ) from error
    except ValueError as error:  # a NUL byte in the name
        raise ParseError(f"{path!r}: not a file name: {error}") from error


def _decoded(data, path):
    """The text in `data`: UTF-8, except comments, which Caffe accepts in any encoding."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError:
        data = _COMMENT.sub(lambda match: match["text"] or b"", data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ParseError(
            f"{path}:{line}:{column}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None


def _complete(message, source):
    missing = message.FindInitializationErrors()
    if missing:
        raise ParseError(f"{source}: required fields are missing: {', '.join(missing)}")
    return message


def _upgraded(upgrade, message, path):
    try:
        return upgrade(message)
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None


def _explain(what, root):
    """protobuf's message `what` without the position and line that it repeats, plus a cure."""
    what = re.sub(r"^\d+:\d+ : ('.*': )?", "", what, flags=re.DOTALL).rstrip(".")
    if match := re.search(r'Message type "([\w.]+)" has no field named "([^"]+)"', what):
        return f"{what}; {_field_hint(_find(root, match[1]), match[2], root)}"
    if match := re.search(r'Enum type "([\w.]+)" has no value named (["\']?)([^"\']*)', what):
        enum = root.file.pool.FindEnumTypeByName(match[1])
        cure = "write it without quotes; " if match[2] else ""
        return f"{what}; {cure}{nearest(match[3], enum.values_by_name)}"
    cure = next((cure for pattern, cure in _CURES if re.search(pattern, what)), None)
    return f"{what}; {cure}" if cure else what


def _find(root, full_name):
    return root.file.pool.FindMessageTypeByName(full_name)


def _field_hint(message, name, root):
    """A hint where the unknown field `name` of `message` may belong, or which field was meant."""
    homes = [
        field.name
        for field in message.fields
        if field.message_type and name in field.message_type.fields_by_name
    ]
    if name in root.fields_by_name:
        return f"it belongs to {root.name}: is a }} missing above?"
    if homes:
        return f"it is a field of {', '.join(homes)}"
    if forks := known_from(name):
        return f"{forks}, and not supported here"
    return nearest(name, message.fields_by_name)
