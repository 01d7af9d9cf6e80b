"""The errors that the papers report, from reported.tsv beside this file."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from ..errors import RelayError
from .spec import Key


class Reported(NamedTuple):
    """errors: {k: top-k error in %}; source: who reports them."""

    errors: dict[int, float]
    source: str


def find(key: Key | None) -> Reported:
    """What is reported for a key; nothing for None. Raises RelayError where there is no line."""
    if key is None:
        return Reported({}, "")
    found = _read().get(key)
    if found is None:
        raise RelayError(f"reported.tsv has no line of {key}")
    return found


@functools.cache
def _read() -> dict[Key, Reported]:
    found: dict[Key, Reported] = {}
    with open(Path(__file__).with_name("reported.tsv"), encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        for table, network, method, data, split, protocol, k, error, source in csv.reader(
            lines, delimiter="\t"
        ):
            key = Key(table, network, method, data, split, protocol)
            found.setdefault(key, Reported({}, source)).errors[int(k)] = float(error)
    return found
