"""Losses and errors over iterations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..colours import of_losses, of_run
from ..style import legend_beside, panels
from .run_tables import Run

DASHES = ("-", "--", ":", "-.")  # of runs
HEADROOM = 1.05  # so that a marker at the top is whole
SMOOTHED = 40  # about how many points a smoothed curve has


def losses(runs: Sequence[Run]) -> Figure | None:
    """Training losses, smoothed and raw; test losses as points.

    All losses of one run in one panel, each in its colour; of several runs a panel for each loss,
    whose title has the loss's colour and whose curves have the runs'.
    """
    colours = of_losses(_names(runs, lambda kind, name: name.endswith("loss")))
    if not colours:
        return None
    several = len(runs) > 1
    figure, axes = panels(len(colours) if several else 1)
    for number, (name, colour) in enumerate(colours.items()):
        panel = axes[number if several else 0]
        for place, run in enumerate(runs):
            dash = DASHES[place % len(DASHES)]
            _loss(panel, run, name, of_run(place) if several else colour, dash, several)
        if several:
            panel.set_title(name, loc="left", color=colour)
    if not several:
        axes[0].set_title("Losses", loc="left")
    for panel in axes:
        _finish(panel, "loss")
    return figure


def _loss(axes: Axes, run: Run, name: str, colour: str, dash: str, several: bool) -> None:
    """A loss of a run in training and in tests, of which either may be missing."""
    label = run.name if several else name
    curve, test = run.curves.get(("train", name)), run.curves.get(("test", name))
    if curve:
        x, y = zip(*sorted(curve.items()))
        axes.plot(x, y, color=colour, lw=0.7, alpha=0.25)
        axes.plot(x, smoothed(y), dash, color=colour, lw=1.6, label=label)
    if test:
        x, y = zip(*sorted(test.items()))
        axes.plot(x, y, ":", color=colour, lw=0.8)
        axes.plot(x, y, "o", color=colour, ms=6, mec="white", zorder=4, label=f"{label}, test")


def errors(runs: Sequence[Run]) -> Figure | None:
    """Test errors in % from every accuracy, a panel for each."""
    names = _names(runs, lambda kind, name: kind == "test" and "accuracy" in name)
    if not names:
        return None
    figure, axes = panels(len(names), height=2.6)
    for panel, name in zip(axes, names):
        for place, run in enumerate(runs):
            curve = sorted(run.curves.get(("test", name), {}).items())
            if curve:
                x, y = zip(*((iteration, 100 * (1 - value)) for iteration, value in curve))
                style = DASHES[place % len(DASHES)] + "o"
                panel.plot(
                    x, y, style, color=of_run(place), ms=5, mec="white", lw=1.6, label=run.name
                )
        panel.set_title(name.replace("accuracy", "error").replace("_", " "), loc="left")
        panel.set_ylim(bottom=0, top=panel.dataLim.ymax * HEADROOM or None)
        _finish(panel, "test error, %")
    return figure


def _names(runs: Sequence[Run], fits: Callable[[str, str], bool]) -> list[str]:
    """The names of the curves that fit, of any run, each once."""
    return list(
        dict.fromkeys(name for run in runs for kind, name in run.curves if fits(kind, name))
    )


def label_of(runs: Sequence[Run], run: Run, text: str) -> str:
    """The text, with the run's name where there are several."""
    return f"{run.name}: {text}" if len(runs) > 1 else text


def heading(runs: Iterable[Run]) -> str:
    """Of which models and runs a figure is."""
    models = ", ".join(dict.fromkeys(run.model for run in runs if run.model))
    names = ", ".join(dict.fromkeys(run.name for run in runs))
    return f"{models}: {names}" if models else names


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a SMOOTHEDth of the curve."""
    keep = 1 - min(1.0, SMOOTHED / max(len(values), 1))
    smooth, weight, found = 0.0, 0.0, []
    for value in values:
        smooth, weight = keep * smooth + value, keep * weight + 1
        found.append(smooth / weight)
    return found


def _finish(axes: Axes, y: str) -> None:
    axes.set(xlabel="iteration", ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(axes)
