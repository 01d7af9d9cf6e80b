"""AuxNet's figure of the supervision ratio."""

from __future__ import annotations

import os
from statistics import mean
from typing import Any

from .. import run_folder
from ..colours import LINE, METHODS
from ..evaluation.identity import newest_snapshot
from ..relay_solver import attach
from ..reproduce import auxnet_tables
from ..reproduce.produce import Production
from ..reproduce.spec import Block, Table
from ..supervision import Ratio, Supervision
from . import style
from .drawn import Drawn

LABELS = {  # of the rows of auxnet_methods
    "standard BP, one output": "standard BP",
    "joint": "joint",
    "multi-way": "multi-way",
}
BATCHES = 10
HEADER = ("method", "block", "layer", "loss", "ratio")
CAPTION = (
    "The supervision ratio of every residual block of {network} on {data}, at the end of training: "
    "the size (root mean square, over {batches} training batches) of a loss's gradient at the "
    "block where its branch begins, over that at the block itself. With standard BP it is the only "
    "loss, with joint back-propagation the sum of the losses, with multi-way that of the nearest "
    "output above. Dotted lines: the outputs."
)


def compared(scale: str) -> Table:
    """AuxNet's supervision ratio by block: plain ResNet, joint and multi-way back-propagation."""
    (block,) = auxnet_tables.methods(scale).blocks
    rows = tuple(row for row in block.rows if row.label in LABELS)
    return Table("AuxNet: the supervision ratio", (Block(block.title, block.data, rows),))


def draw(production: Production) -> Drawn:
    """The figure of trained runs."""
    (block,) = production.table.blocks
    figure, (axes,) = style.panels(width=style.PAGE, height=3.2)
    lines: list[tuple[Any, ...]] = []
    for row in block.rows:
        method = LABELS[row.label]
        ((training, _),) = row.test.members if row.test else ()
        ratios = mean_of(
            [
                of_run(production.engine, production.runs[training, seed].folder)
                for seed in production.options.seeds
            ]
        )
        layers = [ratio.block.level for ratio in ratios]
        values = [ratio.value for ratio in ratios]
        axes.plot(layers, values, "-o", ms=3.5, lw=1.4, color=METHODS[method], label=method)
        lines += [
            (method, ratio.block.name, ratio.block.level, ratio.loss, f"{ratio.value:.6g}")
            for ratio in ratios
        ]
    for layer in {ratio.loss: ratio.block.level for ratio in ratios}.values():
        axes.axvline(layer, color=LINE, lw=0.9, ls=":", zorder=0)
    axes.set(xlabel="layer at which the block ends", ylabel="supervision ratio", ylim=(0, None))
    style.legend_beside(axes)
    data = production.data[block.data].title
    style.title(figure, f"Supervision ratio by block, {block.title}. Data: {data}")
    caption = CAPTION.format(network=block.title, data=data, batches=BATCHES)
    return Drawn(figure, caption, HEADER, lines)


def of_run(engine: Any, run: str, batches: int = BATCHES) -> list[Ratio]:
    """The ratios at the end of a run, over some of its training batches.

    run: its folder, with a solver, a snapshot, and a relay file where there are several losses.
    """
    solver = engine.make_solver(os.path.join(run, "solver.prototxt"), run_folder.extra_of(run))
    solver.net.copy_from(newest_snapshot(run))
    relay = os.path.join(run, "relay.prototxt")
    supervision = Supervision(attach(solver, relay if os.path.exists(relay) else None).schedule)
    for _ in range(batches):
        engine.forward(solver.net)
        supervision.add()
    return supervision.ratios()


def mean_of(runs: list[list[Ratio]]) -> list[Ratio]:
    """The mean over runs of the same net."""
    return [Ratio(each[0].block, each[0].loss, mean(r.value for r in each)) for each in zip(*runs)]
