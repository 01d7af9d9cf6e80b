"""Plot runs: losses, errors, and what --probe measured.

    python tools/plot.py runs/vgg19_relay-... [runs/vgg19_multiloss-... ...] [--out runs/plots]

Writes losses, errors, gradients, flows and classes, each as .svg and .png if the runs hold its
numbers; by default in the first run's folder. `relay figure` makes the papers' figures.
"""

import argparse
import csv
import glob
import os
import sys

import matplotlib
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caffe_plain.errors import CaffeError

from ..errors import RelayError
from ..planning.picture import COLOURS, INK, MUTED

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "relaybp",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
}
DASHES = ("-", "--", ":", "-.")
NAMED = 60  # classes that a figure can name
SMOOTHED = 40  # about how many points a smoothed curve has


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", nargs="+", help="folders of runs")
    parser.add_argument("--out", help="where the files go")
    args = parser.parse_args()
    try:
        runs = [Run(folder) for folder in args.run]
    except CaffeError as error:
        sys.exit(f"plot: {error}")
    out = args.out or args.run[0]
    os.makedirs(out, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in PLOTS.items():
            figure = draw(runs)
            if figure:
                for ending in ("svg", "png"):
                    path = os.path.join(out, f"{name}.{ending}")
                    extra = {"metadata": {"Date": None}} if ending == "svg" else {}
                    figure.savefig(path, dpi=160, bbox_inches="tight", **extra)
                    written.append(path)
    print(f"{len(written)} files: " + ", ".join(written))


class Run:
    """The tables of one run's folder."""

    def __init__(self, folder):
        self.name = os.path.basename(os.path.normpath(folder))
        self.curves, self.probe = {}, {}
        for row in _rows(os.path.join(folder, "metrics.csv"), needed=True):
            self.curves.setdefault((row["kind"], row["name"]), {})[int(row["iteration"])] = float(
                row["value"]
            )
        self.parts = {}  # "trunk" or a loss: its layers
        for row in _rows(os.path.join(folder, "probe.csv")):
            part = self.parts.setdefault(row["part"], [])
            if row["layer"] not in part:
                part.append(row["layer"])
            self.probe.setdefault((row["quantity"], row["flow"]), {}).setdefault(
                int(row["iteration"]), {}
            )[row["layer"]] = float(row["value"])

        self.classes = {  # kind of test: [(class, top-5 error in %)], the best first
            os.path.basename(path)[len("per_class_") : -len(".csv")]: [
                (row["class"], float(row["top5_error"])) for row in _rows(path)
            ]
            for path in sorted(glob.glob(os.path.join(folder, "per_class_*.csv")))
        }

    @property
    def layers(self):
        """The trunk's layers, then those of each branch."""
        parts = sorted(self.parts, key=lambda part: part != "trunk")
        return [layer for part in parts for layer in self.parts[part]]

    def measured(self, quantity):
        """{flow: {iteration: {layer: value}}} of a quantity of the probe."""
        return {flow: values for (name, flow), values in self.probe.items() if name == quantity}


def _rows(path, needed=False):
    if not os.path.exists(path):
        if needed:
            raise RelayError(f"{path}: no such file; expected the folder of a run")
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- curves over iterations ----------------------------------------------------------------------


def losses(runs):
    """Training losses, smoothed and raw; test losses as points."""
    chosen = [
        (run, kind, name) for run in runs for kind, name in run.curves if name.endswith("loss")
    ]
    if not chosen:
        return None
    figure, (axes,) = _figure(1)
    for (run, kind, name), colour, dash in _styled(runs, chosen):
        x, y = zip(*sorted(run.curves[kind, name].items()))
        label = _label(runs, run, f"{name}, test" if kind == "test" else name)
        if kind == "test":
            axes.plot(x, y, "o", color=colour, ms=4, mec="white", label=label)
        else:
            axes.plot(x, y, color=colour, lw=0.7, alpha=0.25)
            axes.plot(x, _smoothed(y), dash, color=colour, lw=1.6, label=label)
    return _finished(figure, axes, "iteration", "loss", "Losses")


def errors(runs):
    """Test errors in % from every accuracy."""
    chosen = [
        (run, kind, name)
        for run in runs
        for kind, name in run.curves
        if kind == "test" and "accuracy" in name
    ]
    if not chosen:
        return None
    figure, (axes,) = _figure(1)
    for (run, kind, name), colour, dash in _styled(runs, chosen):
        x, y = zip(*sorted(run.curves[kind, name].items()))
        axes.plot(
            x,
            [100 * (1 - value) for value in y],
            dash + "o",
            color=colour,
            ms=3.5,
            lw=1.4,
            label=_label(runs, run, name.replace("accuracy", "error").replace("_", " ")),
        )
    axes.set_ylim(bottom=0)
    return _finished(figure, axes, "iteration", "test error, %", "Errors")


def _smoothed(values):
    """An exponential mean over about a SMOOTHEDth of the curve."""
    keep = 1 - min(1.0, SMOOTHED / max(len(values), 1))
    smooth, weight, found = 0.0, 0.0, []
    for value in values:
        smooth, weight = keep * smooth + value, keep * weight + 1
        found.append(smooth / weight)
    return found


# ---- what the probe measured, over layers --------------------------------------------------------


def gradients(runs):
    """The gradient of every layer at several iterations, absolute and relative to its weights."""
    shown = [run for run in runs if run.measured("gradient")]
    if not shown:
        return None
    figure, panels = _figure(2 * len(shown), width=9.6)
    for run, (above, below) in zip(shown, zip(panels[::2], panels[1::2])):
        for axes, quantity, label in (
            (above, "gradient", "mean |g|"),
            (below, "relative", "mean |g| / mean |w|"),
        ):
            _over_layers(axes, run, run.measured(quantity)["all"])
            axes.set(yscale="log", ylabel=label)
        above.set_title(_label(runs, run, "Gradients by layer"), loc="left")
        _legend_beside(above, "iteration")
    return figure


def flows(runs):
    """Where flows meet: each one's share of the gradient, and whether they pull the same way."""
    shown = [run for run in runs if run.measured("cosine")]
    if not shown:
        return None
    figure, panels = _figure(2 * len(shown), width=9.6)
    for run, (above, below) in zip(shown, zip(panels[::2], panels[1::2])):
        cosines, shares = run.measured("cosine"), run.measured("share")
        meeting = {layer for values in cosines.values() for row in values.values() for layer in row}
        layers = [layer for layer in run.layers if layer in meeting]
        for axes, quantity, label in (
            (above, shares, "share of the gradient"),
            (below, cosines, "cosine between flows"),
        ):
            for colour, (flow, values) in zip(COLOURS, quantity.items()):
                _last_in_colour(axes, layers, values, colour, flow)
            axes.set_ylabel(label)
            _legend_beside(axes)
        above.set_title(
            _label(runs, run, "Where flows meet: each probe, and their mean"), loc="left"
        )
        above.set_ylim(0, 1)
        below.axhline(0, color=INK, lw=0.8)
        below.set_ylim(-1, 1)
    return figure


def _over_layers(axes, run, values):
    """One line for each probed iteration, from dark (early) to light (late), cut between parts."""
    iterations, layers = _spread(sorted(values), 6), run.layers
    for number, iteration in enumerate(iterations):
        colour = colormaps["viridis"](0.9 * number / max(len(iterations) - 1, 1))
        for part, members in run.parts.items():
            here = [layer for layer in members if layer in values[iteration]]
            axes.plot(
                [layers.index(layer) for layer in here],
                [values[iteration][layer] for layer in here],
                "-o",
                ms=3,
                lw=1.2,
                color=colour,
                label=str(iteration) if part == "trunk" else None,
            )
    _name_layers(axes, layers)


def _last_in_colour(axes, layers, values, colour, label):
    """The mean over the probed iterations, and each of them faintly."""
    rows = [values[iteration] for iteration in sorted(values)]
    places = [k for k, layer in enumerate(layers) if layer in rows[0]]
    for row in rows:
        axes.plot(places, [row[layers[k]] for k in places], color=colour, lw=0.7, alpha=0.3)
    means = [sum(row[layers[k]] for row in rows) / len(rows) for k in places]
    axes.plot(places, means, "-o", ms=4, lw=1.8, color=colour, label=label)
    _name_layers(axes, layers)


def _spread(items, most):
    """At most `most` of the items, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _name_layers(axes, layers):
    every = -(-len(layers) // 60)
    axes.set_xticks(range(0, len(layers), every), layers[::every], rotation=90, fontsize=7)
    axes.set_xlim(-0.5, len(layers) - 0.5)


# ---- errors by class -----------------------------------------------------------------------------


def classes(runs):
    """Top-5 error of every class in ascending order, for each test; a few classes are named."""
    shown = [(run, test) for run in runs for test in run.classes]
    if not shown:
        return None
    figure, (axes,) = _figure(1, width=9.6)
    for number, (run, test) in enumerate(shown):
        rows = run.classes[test]
        axes.plot(
            range(1, len(rows) + 1),
            [error for _, error in rows],
            "-",
            lw=1.6,
            marker="o" if len(rows) <= NAMED else None,
            ms=3.5,
            color=COLOURS[number % 8],
            label=_label(runs, run, test),
        )
    if len(shown) == 1 and len(rows) <= NAMED:
        axes.set_xticks(
            range(1, len(rows) + 1), [name for name, _ in rows], rotation=90, fontsize=7
        )
    axes.set_ylim(bottom=0)
    axes.set(xlabel="classes, the best first", ylabel="top-5 error, %")
    axes.set_title("Errors by class", loc="left")
    axes.legend(fontsize=8)
    return figure


# ---- figures -------------------------------------------------------------------------------------


def _figure(panels, width=7.2):
    figure = Figure(figsize=(width, 3.4 * panels), layout="constrained")
    return figure, [figure.add_subplot(panels, 1, k + 1) for k in range(panels)]


def _styled(runs, chosen):
    """Each choice with its colour and dash: by name, and by run if there are several."""
    names = list(dict.fromkeys(name for _, _, name in chosen))
    for run, kind, name in chosen:
        number = names.index(name)
        if len(runs) > 1:
            yield (run, kind, name), COLOURS[runs.index(run) % 8], DASHES[number % 4]
        else:
            yield (run, kind, name), COLOURS[number % 8], DASHES[0]


def _label(runs, run, text):
    return f"{run.name}: {text}" if len(runs) > 1 else text


def _finished(figure, axes, x, y, title):
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return figure


def _legend_beside(axes, title=None):
    axes.legend(title=title, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


PLOTS = {
    "losses": losses,
    "errors": errors,
    "gradients": gradients,
    "flows": flows,
    "classes": classes,
}
