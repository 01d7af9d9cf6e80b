"""Errors by class in ascending order."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..colours import series
from ..style import panels
from .curves import label_of
from .run_tables import Run

NAMED = 60  # classes that a page can name


def classes(runs: Sequence[Run]) -> Figure | None:
    """The error of every class, for each test; a few classes are named."""
    shown = [(run, test) for run in runs for test in run.classes]
    if not shown:
        return None
    figure, (axes,) = panels()
    for number, (run, test) in enumerate(shown):
        k, rows = run.classes[test]
        ascending(axes, rows, series(number), k, label=label_of(runs, run, test))
    if len(shown) == 1:
        name_classes(axes, [name for name, _ in rows])
    axes.set_title("Errors by class", loc="left")
    axes.legend()
    return figure


def ascending(
    axes: Axes, rows: Sequence[tuple[str, float]], colour: str, k: int = 5, label: str | None = None
) -> None:
    """A curve of (class, top-k error in %), which are in ascending order."""
    marker = "o" if len(rows) <= NAMED else None
    places, errors = range(1, len(rows) + 1), [error for _, error in rows]
    axes.plot(
        places, errors, "-", lw=1.6, marker=marker, ms=3.5, color=colour, label=label, clip_on=False
    )
    axes.set_ylim(bottom=0)
    axes.set(xlabel="classes, the best first", ylabel=f"top-{k} error, %")


def name_classes(axes: Axes, names: Sequence[str], most: int = NAMED) -> None:
    """Name the classes on the x axis, if they are few."""
    if len(names) <= most:
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90)
