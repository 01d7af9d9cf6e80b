"""The tables that a run's folder holds."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Sequence
from typing import Any

from .. import identity, tables
from ..errors import RelayError

FEW = 20  # classes, of which five guesses are nearly always enough
Values = dict[int, dict[str, float]]  # {iteration: {layer: value}}


class Run:
    """What the tables of a run's folder hold.

    model: its name, "" where nothing recorded it; curves: {(train or test, name): {iteration:
    value}}; parts: {"trunk" or a loss: its layers}; classes: {test: (k, [(class, top-k error in
    %)], the best first)}, k being 5, or 1 of FEW classes or fewer. Raises RelayError for a folder
    without metrics.csv, or with a damaged table of classes.
    """

    def __init__(self, folder: str):
        self.name = os.path.basename(os.path.normpath(folder))
        record = identity.read(folder)
        self.model = record["identity"].get("model", {}).get("name", "") if record else ""
        self.curves: dict[tuple[str, str], dict[int, float]] = {}
        metrics = os.path.join(folder, tables.METRICS)
        if not os.path.exists(metrics):
            raise RelayError(f"{metrics}: no such file; expected the folder of a run")
        for row in tables.read(metrics):
            curve = self.curves.setdefault((row["kind"], row["name"]), {})
            curve[int(row["iteration"])] = float(row["value"])
        self.parts: dict[str, list[str]] = {}
        self._probe: dict[tuple[str, str], Values] = {}
        for row in tables.read(os.path.join(folder, tables.PROBE)):
            part = self.parts.setdefault(row["part"], [])
            if row["layer"] not in part:
                part.append(row["layer"])
            values = self._probe.setdefault((row["quantity"], row["flow"]), {})
            values.setdefault(int(row["iteration"]), {})[row["layer"]] = float(row["value"])
        self.classes = {
            os.path.basename(path)[len("per_class_") : -len(".csv")]: _class_errors(path)
            for path in sorted(glob.glob(os.path.join(glob.escape(folder), "per_class_*.csv")))
        }

    @property
    def layers(self) -> list[str]:
        """The trunk's layers, then those of each branch."""
        parts = sorted(self.parts, key=lambda part: part != "trunk")
        return [layer for part in parts for layer in self.parts[part]]

    def measured(self, quantity: str) -> dict[str, Values]:
        """{flow: {iteration: {layer: value}}} of a quantity of the probe."""
        return {flow: values for (name, flow), values in self._probe.items() if name == quantity}


def _class_errors(path: str) -> tuple[int, list[tuple[str, float]]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        k = 5 if len(rows) > FEW else 1
        return k, [(row["class"], float(row[f"top{k}_error"])) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RelayError(
            f"{path}: not the errors of classes ({error!r}); delete it, `relay evaluate` makes it"
        ) from error


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]
