"""Plot runs: losses, errors, and what --probe measured.

    python tools/plot.py runs/vgg19_relay-... [runs/vgg19_multiloss-... ...] [--out runs/plots]

Writes losses, errors, gradients, flows and classes, each as .svg and .png if the runs hold its
numbers; by default in the first run's folder. `relay figure` makes the papers' figures.
"""

from __future__ import annotations

import os
import sys

from caffe_plain.errors import CaffeError

from ..cli import Parser, Runs
from ..figures import by_class, by_layer, curves
from ..figures.run_tables import Run
from ..style import save, styled, title

PLOTS = {
    "losses": curves.losses,
    "errors": curves.errors,
    "gradients": by_layer.gradients,
    "flows": by_layer.flows,
    "classes": by_class.classes,
}


def main() -> None:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", nargs="+", action=Runs, help="folders of runs")
    parser.add_argument("--out", help="where the files go")
    args = parser.parse_args()
    try:
        runs = [Run(folder) for folder in args.run]
    except CaffeError as error:
        sys.exit(f"plot: {error}")
    out, written = args.out or args.run[0], []
    with styled():
        for name, draw in PLOTS.items():
            figure = draw(runs)
            if figure:
                title(figure, curves.heading(runs))
                written += save(figure, os.path.join(out, name))
    print(f"{len(written)} files:", *written, sep="\n  ")
