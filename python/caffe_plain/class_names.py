"""classes.txt: the names of the classes, one a line, in the order of their labels.

A name is whatever a folder can be called, but for line breaks; bytes that are not UTF-8 survive.
"""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Sequence

from .errors import DataError
from .files import write_atomically

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_class_names(path: str | os.PathLike) -> list[str]:
    """The names in the file `path`, whose lines may end as on Windows; DataError without it."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"cannot read the class file {path}: {error.strerror}") from error
    text = without_mark(data, path).decode("utf-8", "surrogateescape")
    names = [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]
    while names and not names[-1].strip():
        names.pop()
    return names


def write_class_names(path: str | os.PathLike, names: Sequence[str]) -> None:
    """Write classes.txt whole or not at all; DataError for a name that it cannot hold."""
    for name in names:
        if "\n" in name or "\r" in name:
            raise DataError(f"class {name!r}: a name cannot hold a line break: rename the folder")
    text = "".join(f"{name}\n" for name in names)
    write_atomically(path, text.encode("utf-8", "surrogateescape"))


def without_mark(data: bytes, path: str | os.PathLike) -> bytes:
    """The bytes of a text file without the mark that Windows puts before UTF-8."""
    if data.startswith(_UTF16):
        raise DataError(f"{path}: text in UTF-16: save it as UTF-8")
    return data[len(codecs.BOM_UTF8) :] if data.startswith(codecs.BOM_UTF8) else data


def distinct(names: Sequence[str]) -> list[str]:
    """The names for people, each with its label where several classes have one: crane (134)."""
    uses = Counter(names)
    return [f"{name} ({k})" if uses[name] > 1 else name for k, name in enumerate(names)]


def difference(names: Sequence[str], others: Sequence[str]) -> str | None:
    """What another list calls a label, if both lists number the same classes differently."""
    ours, theirs = set(names), set(others)
    for label, (name, other) in enumerate(zip(names, others)):
        if name != other and (name in theirs or other in ours):
            return f"label {label} is {name!r} here and {other!r} there"
    return None
