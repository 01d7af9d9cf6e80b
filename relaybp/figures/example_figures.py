"""Figures 4 and 5 of Relay Backpropagation: images rightly and wrongly classified."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import style
from ..colours import BLUE, GREY, tint
from ..errors import RelayError
from ..evaluation.results import GUESSES, Result
from ..evaluation.validation_set import pictures
from ..reproduce.produce import Production
from ..reproduce.spec import Table
from .class_figure import ensemble_block
from .drawn import Drawn, about
from .run_tables import spread

COLUMNS, ROWS = 4, 2
SMALL = 100  # pixels a side; smaller images show their pixels
HEADER = ("image", "label", "class", "place", "predicted", "predicted class", "score")
CAPTION = (
    "Images that the ensemble of five models (Relay BP) classifies {how}: their class is {what} "
    "the five with the highest scores. Above each image its class, below it the five with their "
    "scores; a blue bar is the right class. The images are the first of each class, from classes "
    "spread evenly over all that have such images. {about}"
)


def compared_right(scale: str) -> Table:
    """Images that the ensemble classifies rightly, with its five best guesses and their scores."""
    title = "Figure 4: images rightly classified"
    return Table(title, (ensemble_block(scale),), one_seed=True)


def compared_wrong(scale: str) -> Table:
    """Images that the ensemble classifies wrongly, with its five best guesses and their scores."""
    title = "Figure 5: images wrongly classified"
    return Table(title, (ensemble_block(scale),), one_seed=True)


def draw_right(production: Production) -> Drawn:
    """Figure 4 of tested runs."""
    return _draw(production, right=True)


def draw_wrong(production: Production) -> Drawn:
    """Figure 5 of tested runs."""
    return _draw(production, right=False)


def _draw(production: Production, right: bool) -> Drawn:
    (block,) = production.table.blocks
    (row,) = block.rows
    assert row.test
    result = production.measure(row.test).results[0]
    how, what = ("rightly", "among") if right else ("wrongly", "not among")
    chosen = choose(result, right)
    if not chosen:
        raise RelayError(f"of the {result.images} images tested none is classified {how}")
    names = [result.names[index] for index in chosen]
    shown = pictures(production.engine.caffe, result.data["source"], names)
    figure = _picture(result, dict(zip(chosen, shown)))
    networks = about(production, "an ensemble of five")
    style.title(figure, f"Images {how} classified. {networks}")
    lines = [line for index in chosen for line in _lines(result, index)]
    return Drawn(figure, CAPTION.format(about=networks, how=how, what=what), HEADER, lines)


def _picture(result: Result, shown: dict[int, np.ndarray]) -> Figure:
    """A grid of images with their guesses; shown: {number of the image: its pixels in RGB}."""
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(style.PAGE, 2.75 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    for place, (index, pixels) in enumerate(shown.items()):
        cell = grid[place // COLUMNS, place % COLUMNS].subgridspec(2, 1, height_ratios=(5, 4))
        name = result.class_name(int(result.labels[index]))
        _image(figure.add_subplot(cell[0]), pixels, name)
        _guesses(figure.add_subplot(cell[1]), result, index)
    return figure


def choose(result: Result, right: bool) -> list[int]:
    """Images of as many classes as there are, whose label is (not) among the five best guesses."""
    best = min(GUESSES, result.scores.shape[1] - 1)
    fitting = np.flatnonzero((result.arrays["ranks"] < best) == right)
    by_class: dict[int, list[int]] = {}
    for index in fitting.tolist():
        by_class.setdefault(int(result.labels[index]), []).append(index)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    order = [index for index in chain.from_iterable(turns) if index is not None]
    count = COLUMNS * ROWS
    return sorted(
        spread(order[: max(count, len(by_class))], count), key=lambda i: (result.labels[i], i)
    )


def _lines(result: Result, index: int) -> list[tuple[Any, ...]]:
    label = int(result.labels[index])
    about = (result.names[index], label, result.class_name(label))
    return [
        (*about, place, guess, result.class_name(guess), score)
        for place, (guess, score) in enumerate(result.guesses(index), 1)
    ]


def _image(axes: Axes, pixels: np.ndarray, name: str) -> None:
    blocks = min(pixels.shape[:2]) < SMALL
    axes.imshow(pixels, interpolation="nearest" if blocks else "antialiased")
    axes.set_title(style.short(name), fontsize=8, fontweight="bold")
    axes.axis("off")


def _guesses(axes: Axes, result: Result, index: int) -> None:
    """A bar for each guess, its class on the left, its score on the right."""
    for place, (label, score) in enumerate(result.guesses(index)):
        colour = BLUE if label == result.labels[index] else GREY
        axes.barh(place, score, 0.9, color=tint(colour))
        axes.text(0.02, place, style.short(result.class_name(label)), va="center", ha="left")
        axes.text(1.0, place, f"{100 * score:.1f} %", va="center", ha="right")
    axes.set(xlim=(0, 1), ylim=(GUESSES - 0.4, -0.6))
    axes.axis("off")
