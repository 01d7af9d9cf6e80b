"""How figures look, and how they are written."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .colours import GRID, INK, MUTED

STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "relaybp",
    "axes.titleweight": "bold",
    "axes.titlesize": 9,
    "figure.titlesize": 9,
}
PAGE = 7.2  # inches
DPI = 200
TITLE_CHARACTERS = 13  # of a title, in an inch


def styled() -> AbstractContextManager[None]:
    """Within it, new figures look like the others."""
    return matplotlib.rc_context(STYLE)


def panels(
    rows: int = 1, columns: int = 1, width: float = PAGE, height: float = 3.2
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, row by row; height: of a row. Sizes in inches."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]


def title(figure: Figure, text: str) -> None:
    """A bold title that begins at the left edge, in lines that fit the figure's width."""
    columns = int(figure.get_size_inches()[0] * TITLE_CHARACTERS)
    figure.suptitle(wrapped(text, columns), x=0.01, ha="left", fontweight="bold")


def wrapped(text: str, columns: int) -> str:
    """The text in lines of at most so many characters, where its words allow it."""
    return "\n".join(textwrap.wrap(text, columns, break_long_words=False))


def name_layers(axes: Axes, names: Sequence[str], most: int = 60) -> None:
    """Name the places 0, 1, ... of the x axis; of many, every second or third only."""
    every = -(-len(names) // most) or 1
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=90)
    axes.set_xlim(-0.5, len(names) - 0.5)


def legend_beside(axes: Axes, text: str | None = None) -> None:
    """A legend to the right of the axes."""
    axes.legend(title=text, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def save(figure: Figure, stem: str, description: str = "") -> list[str]:
    """Write STEM.svg and STEM.png, which are the same bytes for the same figure; their paths."""
    paths = [f"{stem}.svg", f"{stem}.png"]
    os.makedirs(os.path.dirname(stem) or ".", exist_ok=True)
    facts = {"Description": description} if description else {}
    save_svg(figure, paths[0], facts)
    figure.savefig(paths[1], dpi=DPI, metadata=facts)
    return paths


def save_svg(figure: Figure, path: str, facts: dict[str, str] | None = None) -> None:
    """Write a figure as SVG, with some facts about it; the same bytes for the same figure."""
    figure.savefig(path, format="svg", dpi=DPI, metadata={"Date": None, **(facts or {})})


def short(name: str, most: int = 18) -> str:
    """A class's name up to its first comma, and up to `most` characters."""
    name = name.partition(",")[0].strip()
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"
