"""The tables that a training writes, a row at a time, and that may be read meanwhile.

A row is whole or left out: the last one may still be being written, and a full disk or a lost
machine may have torn others.
"""

from __future__ import annotations

import csv
import io
import os

from caffe_plain.files import write_atomically

METRICS, PROBE = "metrics.csv", "probe.csv"
HEADER = ("iteration", "kind", "name", "value")  # of METRICS


def read(path: str) -> list[dict[str, str]]:
    """The whole rows of a table, {column: text}; without the file there are none.

    iteration and value of a whole row are numbers.
    """
    if not os.path.exists(path):
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        text = file.read().replace("\0", "")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    return [row for row in rows if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    if None in row or None in row.values():  # as csv says that there are more values, or fewer
        return False
    try:
        int(row["iteration"]), float(row["value"])
    except (KeyError, ValueError):
        return False
    return True


def cut(path: str, iteration: int, after: str | None = None) -> None:
    """Leave only whole rows of before an iteration in a table.

    after: the kind of rows that come after an iteration, whose own stay.
    """
    if not os.path.isfile(path):
        return
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines(keepends=True)
    kept = lines[:1]
    for line in lines[1:]:
        at, kind = line.split(",", 2)[:2] if line.count(",") > 1 else ("", "")
        last = iteration if kind == after else iteration - 1
        if at.isdigit() and int(at) <= last and line.endswith("\n"):
            kept.append(line)
    if kept != lines:
        write_atomically(path, "".join(kept))
