"""Options that no message declares: `gate_param { slope: 2 }` as the dict {"slope": 2}.

In a LayerParameter, a block of a declared name is a RawBlock: the name, and the text between
the braces. So it goes into every file that a layer goes into, and comes back from it. So do the
blocks that forks of Caffe have and the schema has not: what a phase leaves out refuses no net.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import text_encoding, text_format

from caffe_plain.errors import ParseError

from . import caffe_pb2
from .forks import foreign_blocks, is_private

_names: set[str] = set()
_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\w+|[{}<>]""")
_OPENING = re.compile(r"(?:\s|#[^\n]*)*:?(?:\s|#[^\n]*)*[{<]")


def declare(name: str) -> None:
    """Let layers carry a block `name` of any content; ParseError where a message declares it.

    The messages of forks of Caffe make way for it.
    """
    field = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name.get(name)
    if field and not is_private(field):
        raise ParseError(
            f"{name!r} is a field of LayerParameter; choose another name, or give the class "
            f"param_name = {name!r}"
        )
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ParseError(f"{name!r} cannot name a block; use letters, digits and _")
    _names.add(name)


def is_declared(name: str) -> bool:
    """Whether `name` is the name of such a block."""
    return name in _names


def get(layer: caffe_pb2.LayerParameter, name: str) -> dict[str, Any]:
    """The options in a LayerParameter's block `name`, {} without one.

    A field given several times, or in brackets, is a list; a block is a dict; a word is a str.
    """
    found = [block.text for block in layer.raw_block if block.name == name]
    if len(found) > 1:
        raise ParseError(f"layer {layer.name!r}: {len(found)} blocks {name}; keep one of them")
    try:
        return _parse(found[0]) if found else {}
    except text_format.ParseError as error:
        raise ParseError(f"layer {layer.name!r}: {name}: {error}") from None


def put(layer: caffe_pb2.LayerParameter, name: str, options: dict[str, Any]) -> None:
    """Give a LayerParameter the block `name`; TypeError for values that text cannot hold."""
    if not isinstance(options, dict):
        raise TypeError(f"{name} takes a dict, not {type(options)}")
    layer.raw_block.add(name=name, text=_text(options))


def fold(text: str) -> str:
    """Text format with every declared or foreign block as raw_block { name: "..." text: "..." }.

    Lines stay where they are. Raises text_format.ParseError for a block that cannot be read.
    """
    names = _names | foreign_blocks()
    if not any(name in text for name in names):
        return text
    pieces, position = [], 0
    for match in _TOKEN.finditer(text):
        opening = _OPENING.match(text, match.end()) if match[0] in names else None
        if opening and match.start() >= position:
            end = _closing(text, opening.end())
            pieces += [text[position : match.start()], _folded(text, match, opening.end(), end)]
            closed = opening[0][-1] + text[end : end + 1] in ("{}", "<>")
            pieces.append("}" * closed)
            position = end + closed
    return "".join([*pieces, text[position:]])


def _closing(text, start):
    """Where the bracket stands that closes the one before `start`, or the text's end."""
    depth = 1
    for match in _TOKEN.finditer(text, start):
        depth += {"{": 1, "<": 1, "}": -1, ">": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return len(text)


def _folded(text, name, start, end):
    """The block as a RawBlock without its closing bracket; each line a literal of its own."""
    try:
        _parse(text[start:end])
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        if line == 1:
            column += start - text.rfind("\n", 0, start) - 1
        line += text.count("\n", 0, start)
        raise text_format.ParseError(str(error).partition(" : ")[2], line, column) from None
    between = "\n" * text.count("\n", name.end(), start)
    lines = (_quoted(line) for line in text[start:end].splitlines(keepends=True) or [""])
    return f'{between}raw_block {{ name: "{name[0]}" text: {"".join(lines)}'


def _quoted(line):
    literal = line.rstrip("\n").replace("\\", r"\\").replace('"', r"\"")
    return f'"{literal}\\n"\n' if line.endswith("\n") else f'"{literal}"'


def _parse(text):
    tokens = text_format.Tokenizer(text.splitlines())
    return _block(tokens, "")


def _block(tokens, end):
    """The fields up to the bracket `end`; up to the text's end where that is ""."""
    found = {}
    while not (tokens.AtEnd() if not end else tokens.TryConsume(end)):
        name = tokens.ConsumeIdentifier()
        colon = tokens.TryConsume(":")
        if not colon and tokens.token not in ("{", "<"):
            raise tokens.ParseError('Expected ":".')
        listed, values = _values(tokens)
        if name in found or listed:
            before = found.get(name, [])
            found[name] = (before if isinstance(before, list) else [before]) + values
        else:
            found[name] = values[0]
        tokens.TryConsume(",") or tokens.TryConsume(";")
    return found


def _values(tokens):
    """Whether the values at this place stand in brackets, and the values."""
    if not tokens.TryConsume("["):
        return False, [_value(tokens)]
    values = []
    while not tokens.TryConsume("]"):
        values.append(_value(tokens))
        if not tokens.LookingAt("]"):
            tokens.Consume(",")
    return True, values


def _value(tokens):
    for start, end in ("{}", "<>"):
        if tokens.TryConsume(start):
            return _block(tokens, end)
    if tokens.token[:1] in ('"', "'"):
        return tokens.ConsumeString()
    word = tokens.token
    if not re.match(r"[\w.+-]", word):
        raise tokens.ParseError("Expected a value.")
    tokens.NextToken()
    return {"true": True, "false": False}.get(word, _scalar(word))


def _scalar(word):
    """An int, a float, or the word itself."""
    for read in (lambda word: int(word, 0), text_format.ParseFloat):
        try:
            return read(word)
        except ValueError:
            pass
    return word


def _text(options):
    return "\n".join(f"{_checked(name)}: {_literal(value)}" for name, value in options.items())


def _checked(name):
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise TypeError(f"{name!r} cannot be a field's name")
    return name


def _literal(value):
    if isinstance(value, dict):
        return f"{{ {_text(value)} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + text_encoding.CEscape(value.encode(), as_utf8=False) + '"'
    raise TypeError(f"{value!r} is neither a number, a bool, a text, a list nor a dict")
