"""Losses and errors over iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..colours import of_losses, series
from ..style import panels
from .run_tables import Run

Curve = tuple[Run, str, str]  # a run, train or test, a name

DASHES = ("-", "--", ":", "-.")
SMOOTHED = 40  # about how many points a smoothed curve has


def losses(runs: Sequence[Run]) -> Figure | None:
    """Training losses, smoothed and raw; test losses as points."""
    chosen = [
        (run, kind, name) for run in runs for kind, name in run.curves if name.endswith("loss")
    ]
    if not chosen:
        return None
    figure, (axes,) = panels()
    for (run, kind, name), colour, dash in _styled(runs, chosen):
        x, y = zip(*sorted(run.curves[kind, name].items()))
        label = label_of(runs, run, f"{name}, test" if kind == "test" else name)
        if kind == "test":
            axes.plot(x, y, "o", color=colour, ms=4, mec="white", label=label)
        else:
            axes.plot(x, y, color=colour, lw=0.7, alpha=0.25)
            axes.plot(x, smoothed(y), dash, color=colour, lw=1.6, label=label)
    _finish(axes, "loss", "Losses")
    return figure


def errors(runs: Sequence[Run]) -> Figure | None:
    """Test errors in % from every accuracy."""
    chosen = [
        (run, kind, name)
        for run in runs
        for kind, name in run.curves
        if kind == "test" and "accuracy" in name
    ]
    if not chosen:
        return None
    figure, (axes,) = panels()
    for (run, kind, name), colour, dash in _styled(runs, chosen):
        x, y = zip(*sorted(run.curves[kind, name].items()))
        label = label_of(runs, run, name.replace("accuracy", "error").replace("_", " "))
        percent = [100 * (1 - value) for value in y]
        axes.plot(x, percent, dash + "o", color=colour, ms=3.5, lw=1.4, label=label)
    axes.set_ylim(bottom=0)
    _finish(axes, "test error, %", "Errors")
    return figure


def label_of(runs: Sequence[Run], run: Run, text: str) -> str:
    """The text, with the run's name where there are several."""
    return f"{run.name}: {text}" if len(runs) > 1 else text


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a SMOOTHEDth of the curve."""
    keep = 1 - min(1.0, SMOOTHED / max(len(values), 1))
    smooth, weight, found = 0.0, 0.0, []
    for value in values:
        smooth, weight = keep * smooth + value, keep * weight + 1
        found.append(smooth / weight)
    return found


def _styled(runs: Sequence[Run], chosen: Sequence[Curve]) -> Iterator[tuple[Curve, str, str]]:
    """Each curve with its colour and dash: by name, and by run if there are several."""
    names = list(dict.fromkeys(name for _, _, name in chosen))
    colours = dict(zip(names, map(series, range(len(names)))))
    colours.update(of_losses(name for name in names if name.endswith("loss")))
    for curve in chosen:
        run, _, name = curve
        if len(runs) > 1:
            yield curve, series(runs.index(run)), DASHES[names.index(name) % len(DASHES)]
        else:
            yield curve, colours[name], DASHES[0]


def _finish(axes: Axes, y: str, title: str) -> None:
    axes.set(xlabel="iteration", ylabel=y)
    axes.set_title(title, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
