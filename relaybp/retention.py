"""Which snapshots of a run stay: the newest, the best, and milestones."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from . import snapshots, tables


@dataclass
class Keep:
    """Deletes the other snapshots, each time that one has been written.

    newest: how many of the newest stay; every: those of its multiples do, 0: none; output: of the
    test net, of which one more has the most; run: the folder of metrics.csv, which tells of the
    tests before this process.
    """

    newest: int
    every: int = 0
    output: str = ""
    run: str = ""
    _tests: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in tables.read(os.path.join(self.run, tables.METRICS)):
            if row["kind"] == "test" and row["name"] == self.output:
                self.tested(int(row["iteration"]), {self.output: float(row["value"])})

    def tested(self, iteration: int, means: dict[str, float]) -> None:
        """Take in a test, {output: mean}, of the weights after some iterations."""
        value = means.get(self.output, math.nan)
        if math.isfinite(value):
            self._tests[iteration] = value

    def best(self, prefix: str) -> int | None:
        """The iteration of the best of the snapshots that were tested, the first of equals."""
        tested = [at for at in snapshots.iterations(prefix) if at in self._tests]
        return max(tested, key=self._tests.__getitem__, default=None)

    def __call__(self, prefix: str) -> None:
        """Delete what does not stay of the snapshots of a prefix."""
        snapshots.prune(prefix, self.newest, self.best(prefix), self.every)
