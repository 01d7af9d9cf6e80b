"""The papers' figures by their own numbers: what each compares, and its files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from caffe_plain.files import write_atomically

from ..reproduce.produce import Production
from ..reproduce.spec import Table
from ..style import save, styled
from . import class_figure, example_figures, flow_figure, gradient_figure, ratio_figure
from .drawn import Drawn


class Kind(NamedTuple):
    """compared: what is trained and tested for a figure at a scale; draw: makes it of that."""

    compared: Callable[[str], Table]
    draw: Callable[[Production], Drawn]


FIGURES = {
    "figure1": Kind(gradient_figure.compared, gradient_figure.draw),
    "figure2": Kind(flow_figure.compared, flow_figure.draw),
    "figure3": Kind(class_figure.compared, class_figure.draw),
    "figure4": Kind(example_figures.compared_right, example_figures.draw_right),
    "figure5": Kind(example_figures.compared_wrong, example_figures.draw_wrong),
    "auxnet_ratio": Kind(ratio_figure.compared, ratio_figure.draw),
}
COMPARED = {name: kind.compared for name, kind in FIGURES.items()}


def write(production: Production) -> list[str]:
    """Draw a figure of runs that are trained; return its files in OUT.

    NAME.svg and NAME.png are the figure, NAME.csv the numbers behind it, NAME.md has the caption.
    """
    name, stem = production.name, os.path.join(production.options.out, production.name)
    with styled():
        drawn = FIGURES[name].draw(production)
        caption = " ".join([f"{production.table.title}.", drawn.caption, *remarks(production)])
        paths = save(drawn.figure, stem, caption)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(drawn.header)
    writer.writerows([map(_plain, row) for row in drawn.rows])
    write_atomically(f"{stem}.csv", table.getvalue())
    write_atomically(f"{stem}.md", f"![{production.table.title}]({name}.png)\n\n{caption}\n")
    return [*paths, f"{stem}.csv", f"{stem}.md"]


def _plain(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def remarks(production: Production) -> list[str]:
    """What else a caption says of the runs."""
    options = production.options
    if not production.runs:
        return []
    seeds = " ".join(map(str, options.seeds))
    found = [f"Seed {seeds}." if len(options.seeds) == 1 else f"Seeds {seeds}: their mean."]
    if options.epochs:
        found.append(f"Schedules were shortened proportionally to {options.epochs:g} epochs.")
    return found
