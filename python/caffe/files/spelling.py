"""Spellings of text format that Caffe's protobuf takes and Python's does not."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"|-(?P<gap>(?:\s|\#[^\n]*)+)(?=[\w.])"
    r"|(?<![\w.+-])(?:0+(?P<octal>[0-7])|0[xX]0*(?P<hex>[0-9]))(?![\w.])"
)
_ESCAPE = re.compile(
    r"\\(?:(?P<large>[4-7][0-7]{2})|(?P<mark>\?)"
    r"|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})|.)"
)


def respell(text: str) -> str:
    """Text format with each such spelling in the form that every protobuf reads.

    A sign apart from its number, 01 or 0x0 for a bool or an enum, and in texts the escape of a
    question mark, octal numbers beyond a byte (which wrap), and surrogate pairs. Lines stay.
    """
    return _TOKEN.sub(_respelled, text)


def _respelled(match):
    if match["text"]:
        return _ESCAPE.sub(_escaped, match[0])
    if match["gap"]:
        return " " + match["gap"].removesuffix(" ") + "-"
    # of one digit, so that its value is the same in every base; longer ones are left to protobuf
    digit = match["octal"] or match["hex"]
    return digit.rjust(len(match[0])) if digit else match[0]


def _escaped(match):
    if match["mark"]:
        return r"\077"
    if match["large"]:
        return rf"\{int(match['large'], 8) & 0xFF:03o}"
    if match["high"]:
        high, low = int(match["high"], 16), int(match["low"], 16)
        return rf"\U{0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF):08x}"
    return match[0]
