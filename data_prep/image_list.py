"""The list file of convert_imageset: one image a line, "FILE LABEL"."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_plain.class_names import without_mark
from caffe_plain.images import printable
from relaybp.data_prep.errors import PrepError, some

_LABEL = re.compile(rb"[+-]?[0-9]+")
_LARGEST = 2**31 - 1  # a Datum's label is an int32


class ImageList:
    """The files and labels of a list file, compact enough for tens of millions of lines.

    labels: int32 per record, -1 where the line holds no valid label (only with skip_bad).
    problems: record -> what is wrong with its line.
    """

    def __init__(
        self, path: str | Path, classes: Sequence[str] | None = None, skip_bad: bool = False
    ) -> None:
        self.path = path
        self._classes = classes
        self._text = _read(path)
        self._starts, self._lengths = array("q"), array("q")
        self._lines = array("q")
        self.problems = {}
        labels = array("i")
        start = 0
        for line_number, line in enumerate(io.BytesIO(self._text), 1):
            if line.strip():
                name, label = self._parse(line)
                if isinstance(label, str):
                    self.problems[len(labels)] = label
                    label = -1
                labels.append(label)
                self._starts.append(start + line.index(name))
                self._lengths.append(len(name))
                self._lines.append(line_number)
            start += len(line)
        self.labels = np.array(labels, dtype=np.int32)
        self._check(skip_bad)

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, record: int) -> bytes:
        """The file name of a record, as bytes."""
        start = self._starts[record]
        return self._text[start : start + self._lengths[record]]

    def where(self, record: int) -> str:
        """The record for people: its line and its file."""
        return f"{self.path}, line {self._lines[record]}, {printable(self.name(record))}"

    def line(self, record: int) -> int:
        """The number of the line that a record stands in, from 1."""
        return self._lines[record]

    def _parse(self, line: bytes) -> tuple[bytes, int | str]:
        """The file name, which may begin with a blank, and the label or what is wrong with it."""
        parts = line.rstrip().rsplit(maxsplit=1)
        if len(parts) < 2:
            return parts[0], "no label: expected 'FILE LABEL'"
        name, text = parts
        shown = text.decode("utf-8", "replace")
        if not _LABEL.fullmatch(text):
            return name, f"label {shown!r} is not an integer"
        label = int(text)
        if not 0 <= label <= _LARGEST:
            return name, f"label {shown} is not between 0 and {_LARGEST}"
        if self._classes is not None and label >= len(self._classes):
            return name, (
                f"label {shown} has no name: the class file has "
                f"{len(self._classes)} lines, for labels 0 to {len(self._classes) - 1}"
            )
        return name, label

    def _check(self, skip_bad: bool) -> None:
        if not len(self):
            raise PrepError(f"{self.path}: no images in this list: expected lines 'FILE LABEL'")
        if len(self.problems) == len(self):
            first = next(iter(self.problems))
            raise PrepError(
                f"no line has a valid label; the first: {self.where(first)}: {self.problems[first]}"
            )
        if self.problems and not skip_bad:
            found = [f"{self.where(record)}: {why}" for record, why in self.problems.items()]
            raise PrepError(
                f"{len(found)} of {len(self)} lines have no valid label:\n"
                f"{some(found)}\ncorrect the list, or leave these lines out with "
                "--skip_bad"
            )


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise PrepError(f"cannot read the list file {path}: {error.strerror}") from error
    return without_mark(data, path)
