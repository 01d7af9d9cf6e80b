"""AuxNet's figure of the supervision ratio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from statistics import mean
from typing import Any

from matplotlib.axes import Axes

from caffe_plain.snapshots import newest_weights

from .. import run_folder, style
from ..colours import METHODS, MUTED
from ..relay_solver import attach
from ..reproduce import auxnet_tables
from ..reproduce.produce import Production
from ..reproduce.spec import Block, Row, Table
from ..supervision import Ratio, Supervision
from .drawn import Drawn, about

LABELS = {  # of the rows of auxnet_methods
    "standard BP, one output": "standard BP",
    "joint": "joint",
    "multi-way": "multi-way",
}
BATCHES = 10
HEADER = ("method", "block", "layer", "loss", "ratio")
CAPTION = (
    "The supervision ratio of every residual block at the end of training: the size (root mean "
    "square, over {batches} training batches) of a loss's gradient at the block where its branch "
    "begins, over that at the block itself. With standard BP it is the only loss, with joint "
    "back-propagation the sum of the losses, with multi-way that of the nearest output above. "
    "Dotted: the outputs. Lines are cut where features change their size, since the sizes of their "
    "gradients do not compare. {about}"
)


def compared(scale: str) -> Table:
    """AuxNet's supervision ratio by block: plain ResNet, joint and multi-way back-propagation."""
    (block,) = auxnet_tables.methods(scale).blocks
    rows = tuple(row for row in block.rows if row.label in LABELS)
    return Table("AuxNet: the supervision ratio", (Block(block.title, block.data, rows),))


def draw(production: Production) -> Drawn:
    """The figure of trained runs."""
    (block,) = production.table.blocks
    production.engine.use_device(production.options.gpu)
    found = {LABELS[row.label]: measured(production, row) for row in block.rows}
    figure, (axes,) = style.panels()
    for method, ratios in found.items():
        _curve(axes, ratios, METHODS[method], method)
    ends = {ratio.loss: ratio.block.level for ratio in found["multi-way"]}
    for number, layer in enumerate(ends.values()):
        label = None if number else "outputs"
        axes.axvline(layer, color=MUTED, lw=1.1, ls=":", zorder=1, label=label)
    axes.set(xlabel="layer at which the block ends", ylabel="supervision ratio", ylim=(0, None))
    axes.grid(False, axis="x")
    style.legend_beside(axes)
    networks = about(production, block.title)
    style.title(figure, f"Supervision ratio by block. {networks}")
    rows: list[tuple[Any, ...]] = [
        (method, ratio.block.name, ratio.block.level, ratio.loss, ratio.value)
        for method, ratios in found.items()
        for ratio in ratios
    ]
    return Drawn(figure, CAPTION.format(about=networks, batches=BATCHES), HEADER, rows)


def measured(production: Production, row: Row) -> list[Ratio]:
    """The mean over seeds of the ratios of a row's runs."""
    ((training, _),) = row.test.members if row.test else ()
    folders = [production.runs[training, seed].folder for seed in production.options.seeds]
    runs = [of_run(production.engine, folder) for folder in folders]
    return [Ratio(each[0].block, each[0].loss, mean(r.value for r in each)) for each in zip(*runs)]


def _curve(axes: Axes, ratios: Sequence[Ratio], colour: str, label: str) -> None:
    """A line over the layers, cut where the size of the features changes."""
    for number, (_, stage) in enumerate(groupby(ratios, lambda ratio: ratio.block.shape)):
        layers, values = zip(*((ratio.block.level, ratio.value) for ratio in stage))
        axes.plot(
            layers, values, "-o", ms=3.5, lw=1.4, color=colour, label=label if not number else None
        )


def of_run(engine: Any, run: str, batches: int = BATCHES) -> list[Ratio]:
    """The ratios at the end of a run, over some of its training batches.

    run: its folder, with a solver, a snapshot, and a relay file where there are several losses.
    """
    solver = engine.make_solver(os.path.join(run, "solver.prototxt"), run_folder.extra_of(run))
    solver.net.copy_from(newest_weights(run))
    relay = os.path.join(run, "relay.prototxt")
    supervision = Supervision(attach(solver, relay if os.path.exists(relay) else None).schedule)
    for _ in range(batches):
        engine.forward(solver.net)
        supervision.add()
    return supervision.ratios()
