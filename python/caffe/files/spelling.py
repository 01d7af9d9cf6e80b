"""Where Caffe's protobuf and Python's read text format differently."""

from __future__ import annotations

import re

from google.protobuf import text_format

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|["'][^\n]*"""
    r"|-(?P<gap>(?:\s|\#[^\n]*)+)(?=[\w.])"
    r"|(?<![\w.+-])(?:0+(?P<octal>[0-7])|0[xX]0*(?P<hex>[0-9]))(?![\w.])"
    r"|(?P<number>(?<![\w.])\.?[0-9](?:[eE][+-]|[\w.])*)"
    r"|(?P<stray>\+|[^\0-\x7f]|[\x1c-\x1f])"
)
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?", re.ASCII
)
_ESCAPE = re.compile(
    r"\\(?:(?P<large>[4-7][0-7]{2})|(?P<mark>\?)"
    r"|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<known>[abfnrtv\\'\"xuU0-7])|.)"
)


def respell(text: str) -> str:
    """Text format in the form that every protobuf reads, if Caffe's reads it; lines stay.

    Respelled are a sign apart from its number, 01 or 0x0 for a bool or an enum, and in texts the
    escape of a question mark, octal numbers beyond a byte (which wrap), and surrogate pairs.
    Raises protobuf's ParseError at what only Python's takes: +2, 1_0, 0b1, escapes that C does not
    have, and outside of texts and comments, digits and spaces beyond ASCII.
    """
    return _TOKEN.sub(_respelled, text)


def _respelled(match):
    if match["text"]:
        return _ESCAPE.sub(lambda escape: _escaped(escape, match), match[0])
    if match["gap"]:
        return " " + match["gap"].removesuffix(" ") + "-"
    if match["stray"] == "+":
        raise _refusal(match, "Expected a value, found +; a number is written without it")
    if match["stray"]:
        raise _refusal(match, f"Unexpected character {match[0]!r}; text goes in quotes")
    if match["number"] and not _NUMBER.fullmatch(match["number"]):
        raise _refusal(match, f"Couldn't parse number: {match[0]}; write digits and a point only")
    # of one digit, so that its value is the same in every base; longer ones are left to protobuf
    digit = match["octal"] or match["hex"]
    return digit.rjust(len(match[0])) if digit else match[0]


def _escaped(match, text):
    if match["mark"]:
        return r"\077"
    if match["large"]:
        return rf"\{int(match['large'], 8) & 0xFF:03o}"
    if match["high"]:
        high, low = int(match["high"], 16), int(match["low"], 16)
        return rf"\U{0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF):08x}"
    if match["known"]:
        return match[0]
    raise _refusal(text, f"Invalid escape {match[0]} in {text[0]}; write a backslash as \\\\")


def _refusal(match, message):
    """The error that the text cannot be parsed at a match."""
    before = match.string[: match.start()]
    line, column = before.count("\n") + 1, match.start() - before.rfind("\n")
    return text_format.ParseError(message, line, column)
