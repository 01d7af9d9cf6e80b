"""Errors by class: bars with names, in the same order for all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..colours import of_run
from ..style import PAGE, legend_beside, panels, short
from .curves import label_of
from .run_tables import Run

NAMED = 40  # classes that a page can name
INCH = 0.13  # of a bar


def classes(runs: Sequence[Run]) -> Figure | None:
    """The error of every class for each test, the worst class first; of many, the worst ones.

    Which error: see Run.classes.
    """
    found = {label_of(runs, run, test): run.classes[test] for run in runs for test in run.classes}
    if not found:
        return None
    tests = {label: dict(rows) for label, (_, rows) in found.items()}
    names = worst_first(tests)
    shown = names[:NAMED]
    height = 1.0 + INCH * len(shown) * (len(tests) + 0.6)
    figure, (axes,) = panels(width=PAGE, height=height)
    bars(
        axes,
        [short(name, 24) for name in shown],
        {test: [errors.get(name, 0.0) for name in shown] for test, errors in tests.items()},
        {test: of_run(place) for place, test in enumerate(tests)},
    )
    part = f" (the {len(shown)} worst of {len(names)})" if len(shown) < len(names) else ""
    axes.set_title(f"Errors by class{part}", loc="left")
    kinds = sorted({k for k, _ in found.values()})
    axes.set_xlabel(f"top-{' and top-'.join(map(str, kinds))} error, %")
    legend_beside(axes)
    return figure


def worst_first(tests: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The classes of {test: {class: error}}, the greatest mean error first."""
    found: dict[str, list[float]] = {}
    for errors in tests.values():
        for name, error in errors.items():
            found.setdefault(name, []).append(error)
    return sorted(found, key=lambda name: (-mean(found[name]), name))


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
) -> None:
    """Horizontal bars of errors, for each name one of each key of `values`, the first on top."""
    thick = 0.8 / len(values)
    for number, (key, errors) in enumerate(values.items()):
        places = [k + thick * (number + 0.5) - 0.4 for k in range(len(names))]
        axes.barh(places, errors, thick, color=colours[key], linewidth=0, label=key)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="top-5 error, %", ylim=(len(names) - 0.4, -0.6))
    axes.grid(False, axis="y")
