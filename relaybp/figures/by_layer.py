"""What a probe has measured, over the layers of a net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from ..colours import INK, of_losses, of_run
from ..style import legend_beside, name_layers, panels
from .curves import label_of
from .run_tables import Run, Values, spread

SHOWN = 6  # iterations, at most
GRADIENT, RELATIVE = "mean |g|", "mean |g| / mean |w|"


def gradients(runs: Sequence[Run]) -> Figure | None:
    """The gradient of every layer at several iterations, absolute and relative to its weights."""
    shown = [run for run in runs if run.measured("gradient")]
    if not shown:
        return None
    figure, axes = panels(2 * len(shown))
    for run, above, below in zip(shown, axes[::2], axes[1::2]):
        parts = list(run.parts.values())
        over_layers(above, parts, run.measured("gradient")["all"], GRADIENT)
        over_layers(below, parts, run.measured("relative").get("all", {}), RELATIVE)
        above.set_title(label_of(runs, run, "Gradients by layer"), loc="left")
        legend_beside(above, "iteration")
    return figure


def flows(runs: Sequence[Run]) -> Figure | None:
    """Where flows meet: each one's share of the gradient, and whether they pull the same way."""
    shown = [run for run in runs if run.measured("cosine")]
    if not shown:
        return None
    figure, axes = panels(2 * len(shown))
    for run, above, below in zip(shown, axes[::2], axes[1::2]):
        cosines, shares = run.measured("cosine"), run.measured("share")
        meeting = {layer for values in cosines.values() for row in values.values() for layer in row}
        layers = [layer for layer in run.layers if layer in meeting]
        _means(above, layers, shares, of_losses(shares))
        _means(below, layers, cosines, {pair: of_run(k) for k, pair in enumerate(cosines)})
        title = label_of(runs, run, "Where flows meet: each probe, and their mean")
        above.set_title(title, loc="left")
        above.set(ylabel="share of the gradient", ylim=(0, 1))
        below.axhline(0, color=INK, lw=0.8)
        below.set(ylabel="cosine between flows", ylim=(-1, 1))
    return figure


def over_layers(axes: Axes, parts: Sequence[Sequence[str]], values: Values, label: str) -> None:
    """One line for each iteration, from dark (early) to light (late), cut between parts."""
    iterations, layers = spread(sorted(values), SHOWN), [name for part in parts for name in part]
    for number, iteration in enumerate(iterations):
        style: dict[str, Any] = {"color": _shade(number, len(iterations)), "ms": 3, "lw": 1.2}
        for part in parts:
            here = [layer for layer in part if layer in values[iteration]]
            places = [layers.index(layer) for layer in here]
            y = [values[iteration][layer] for layer in here]
            label_once = f"{iteration:,}" if part is parts[0] else None
            axes.plot(places, y, "-o", label=label_once, **style)
    name_layers(axes, layers)
    axes.set(yscale="log", ylabel=label)
    axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(2, 0.5)))
    axes.tick_params(axis="y", which="minor", labelsize=8)


def _shade(number: int, count: int) -> tuple[float, ...]:
    return matplotlib.colormaps["viridis"](0.85 * number / max(count - 1, 1))


def _means(
    axes: Axes, layers: list[str], quantity: Mapping[str, Values], colours: Mapping[str, str]
) -> None:
    """Of each flow the mean over the probed iterations, and each of them faintly.

    An iteration lacks the layers that are still being written.
    """
    for flow, values in quantity.items():
        rows = [values[iteration] for iteration in sorted(values)]
        places = [k for k, layer in enumerate(layers) if any(layer in row for row in rows)]
        for row in rows:
            y = [row.get(layers[k], math.nan) for k in places]
            axes.plot(places, y, color=colours[flow], lw=0.7, alpha=0.3)
        means = [mean(row[layers[k]] for row in rows if layers[k] in row) for k in places]
        axes.plot(places, means, "-o", ms=4, lw=1.8, color=colours[flow], label=flow)
    name_layers(axes, layers)
    legend_beside(axes)
