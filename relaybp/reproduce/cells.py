"""From results to the numbers of a table: means and deviations over seeds, and improvements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from . import reported
from .spec import Row

NOTHING = "-"


@dataclass(frozen=True)
class Measured:
    """What was measured for a row: a Result for each seed, and what was tested.

    results: have errors {k: top-k error in %} and images; runs: the names of the folders behind
    them; identities: a checksum of each run's identity.
    """

    results: tuple[Any, ...] = ()
    runs: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    protocol: str = ""

    def errors(self, k: int) -> list[float]:
        """The top-k error of each seed, in %; none where k is not below the number of classes."""
        return [result.errors[k] for result in self.results if k in result.errors]

    @property
    def images(self) -> int:
        """How many images were tested, 0 for none."""
        return self.results[0].images if self.results else 0


@dataclass(frozen=True)
class Number:
    """A cell. value: mean error in %; deviation: of the sample, None for one run; improvement: by
    how much the error is below that of the row that it is compared with."""

    value: float
    deviation: float | None = None
    improvement: float | None = None

    def text(self, plus_minus: str = "±") -> str:
        """50.72 ± 0.10 (0.19)"""
        parts = [f"{self.value:.2f}"]
        if self.deviation is not None:
            parts.append(f"{plus_minus} {self.deviation:.2f}")
        if self.improvement is not None:
            parts.append(f"({self.improvement:.2f})")
        return " ".join(parts)


def number(errors: Sequence[float], base: Sequence[float] = ()) -> Number | None:
    """The Number of the errors of several seeds; base: those of the row to compare with."""
    if not errors:
        return None
    improvement = mean(base) - mean(errors) if base else None
    return Number(mean(errors), stdev(errors) if len(errors) > 1 else None, improvement)


def measured_number(row: Row, k: int, found: dict[str, Measured]) -> Number | None:
    """What was measured in a row; found: {row label: Measured} of its block."""
    base = found.get(row.over, Measured()).errors(k)
    return number(found.get(row.label, Measured()).errors(k), base)


def reported_number(row: Row, k: int, rows: Sequence[Row]) -> Number | None:
    """What is reported for a row; rows: those of its block."""
    mine = reported.find(row.reported).errors.get(k)
    if mine is None:
        return None
    over = [reported.find(other.reported).errors for other in rows if other.label == row.over]
    return number([mine], [errors[k] for errors in over if k in errors])


def text(found: Number | None, plus_minus: str = "±") -> str:
    """A number as a cell, "-" where there is none."""
    return found.text(plus_minus) if found else NOTHING
