"""Figure 3 of Relay Backpropagation: errors by class."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import style
from ..colours import METHODS
from ..evaluation.results import Result
from ..reproduce import relay_tables
from ..reproduce.produce import Production
from ..reproduce.spec import Block, Table
from .by_class import bars
from .drawn import Drawn, about
from .run_tables import spread

STANDARD, RELAY, ENSEMBLE = "standard BP", "Relay BP", "ensemble"
EXAMPLES = 10
NAMED = 20  # classes that half a page can name
HEADER = ("label", "class", "images", STANDARD, RELAY, ENSEMBLE, "is an example")
CAPTION = (
    "Top-5 error by class. (a) One network by standard BP and by Relay BP, for classes evenly "
    "spaced in the order of the difference, from where Relay BP helps most (above) to where it "
    "harms most. (b) All {count} classes by the ensemble of five models (Relay BP), in ascending "
    "order."
)


def compared(scale: str) -> Table:
    """Top-5 errors of example classes, standard BP against Relay BP, and of all by the ensemble."""
    model = relay_tables.table4(scale).blocks[0]
    rows = tuple(row for row in model.rows if row.label in (STANDARD, RELAY))
    return Table(
        "Figure 3: errors by class", (Block(model.title, model.data, rows), ensemble_block(scale))
    )


def ensemble_block(scale: str) -> Block:
    """The row of Table 5 with the ensemble."""
    block = relay_tables.table5(scale).blocks[0]
    return Block("ensemble of five models", block.data, block.rows[-1:])


def draw(production: Production) -> Drawn:
    """The figure of tested runs."""
    model, ensemble = production.table.blocks
    rows = {**{row.label: row for row in model.rows}, ENSEMBLE: ensemble.rows[0]}
    results = {
        label: production.measure(row.test).results for label, row in rows.items() if row.test
    }
    found = {label: errors(of_seeds) for label, of_seeds in results.items()}
    first = results[ENSEMBLE][0]
    names = {label: first.class_name(label) for label in found[ENSEMBLE]}
    figure = _picture(found, names)
    networks = about(production, model.title)
    style.title(figure, f"Errors by class. {networks}")
    shown = examples(found[STANDARD], found[RELAY])
    lines: list[tuple[Any, ...]] = [
        (
            label,
            names[label],
            images,
            *(each[label] for each in found.values()),
            int(label in shown),
        )
        for label, images, _ in sorted(first.class_errors())
    ]
    return Drawn(figure, f"{CAPTION.format(count=len(names))} {networks}", HEADER, lines)


def _picture(found: dict[str, dict[int, float]], names: dict[int, str]) -> Figure:
    """Bars of example classes, and the curve of all; found: {method: {label: error in %}}."""
    figure, (left, right) = style.panels(1, 2, height=3.6)
    shown = examples(found[STANDARD], found[RELAY])
    short = {label: style.short(name) for label, name in names.items()}
    both = {method: [found[method][label] for label in shown] for method in (STANDARD, RELAY)}
    bars(left, [short[label] for label in shown], both, METHODS)
    left.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=2)
    five = found[ENSEMBLE]
    order = sorted(five, key=lambda label: (five[label], label))
    ascending(right, [(short[label], five[label]) for label in order], METHODS[RELAY])
    left.set_title("(a) example classes", loc="left")
    right.set_title("(b) all classes, ensemble of five", loc="left")
    return figure


def errors(results: Sequence[Result]) -> dict[int, float]:
    """{label: top-5 error in %}, the mean over seeds."""
    by_seed = [{label: error for label, _, error in result.class_errors()} for result in results]
    return {label: mean(each[label] for each in by_seed) for label in by_seed[0]}


def examples(standard: dict[int, float], relay: dict[int, float]) -> list[int]:
    """Labels evenly spaced in the order of the improvement, the greatest first."""
    order = sorted(standard, key=lambda label: (relay[label] - standard[label], label))
    return spread(order, EXAMPLES)


def ascending(axes: Axes, rows: Sequence[tuple[str, float]], colour: str) -> None:
    """A curve of (class, error in %), which are in ascending order; few classes are named."""
    named = len(rows) <= NAMED
    places, errors = range(1, len(rows) + 1), [error for _, error in rows]
    axes.plot(
        places,
        errors,
        "-",
        lw=1.6,
        marker="o" if named else None,
        ms=3.5,
        color=colour,
        clip_on=False,
    )
    axes.set_ylim(bottom=0)
    axes.set(xlabel="classes, the best first", ylabel="top-5 error, %")
    if named:
        axes.set_xticks(places, [name for name, _ in rows], rotation=90)
