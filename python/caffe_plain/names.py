"""Names that come out of files and become names of files: the one place that checks them."""

from __future__ import annotations

import os
from unicodedata import category
from urllib.parse import quote

from .errors import DataError

_LONGEST_BYTES = 255  # of one name, in the usual file systems


def file_name(name: str, what: str) -> str:
    """Return `name`, which is safe as the name of one file or folder inside a folder of ours.

    what: what the name is and where it comes from, for the DataError about a name that would
    lead out of the folder ("..", "a/b"), break a list of lines, or that no file system takes.
    """
    problem = _problem(name)
    if problem:
        raise DataError(f"{what} {name[:80]!r} cannot name a file: {problem}; rename it")
    return name


def quoted(name: str) -> str:
    """`name` as a part of the name of a file: what is not a letter, digit or one of _.-~ as %XX."""
    return quote(name, safe="")


def _problem(name: str) -> str:
    if name in ("", ".", ".."):
        return "it names no file of its own"
    if "/" in name or "\\" in name:
        return "it holds a slash, which could lead out of the folder"
    if len(name.splitlines()) > 1 or any(category(letter) == "Cc" for letter in name):
        return "it holds a line break or another control character"
    try:
        size_bytes = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "the file system cannot store its letters"
    if size_bytes > _LONGEST_BYTES:
        return f"it has {size_bytes} bytes, more than the {_LONGEST_BYTES} that a name can have"
    return ""
