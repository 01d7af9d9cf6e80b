"""Reproduce a figure of the papers: train and test what it shows, and draw it.

    relay figure figure1                      drawn scenes: minutes, to see that it works
    CIFAR10=/lmdbs relay figure figure3       CIFAR-sized networks
    PLACES2=/lmdbs relay figure figure3       the paper's own, days to weeks of a GPU

Writes OUT/FIGURE.svg and .png, the numbers behind them as .csv, and the caption as .md. The runs
are those of the tables in the same OUT.
"""

from __future__ import annotations

import os

from ..errors import RelayError
from ..figures.produce import COMPARED, write
from ..reproduce.produce import Production
from ..reproduce.runs import FINISHED
from .reproduce import run


def main() -> None:
    run("figure", __doc__, COMPARED, figure)


def figure(production: Production) -> None:
    """Train, test, draw and write the figure. Raises RelayError where ONLY= has left out a run."""
    production.train()
    missing = [run.folder for run in production.runs.values() if run.state != FINISHED]
    if missing:
        names = ", ".join(map(os.path.basename, missing))
        raise RelayError(f"{names} is not trained, which the figure shows; leave ONLY= out")
    print("Written: " + ", ".join(write(production)))
