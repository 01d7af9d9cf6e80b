"""Figure 1 of Relay Backpropagation: gradients by layer under standard BP."""

from __future__ import annotations

import os
from statistics import mean

from .. import run_folder, style
from ..errors import RelayError
from ..reproduce import relay_tables
from ..reproduce.produce import Production
from ..reproduce.spec import Block, Table
from .by_layer import over_layers
from .drawn import Drawn, about
from .run_tables import Run, Values

QUANTITIES = {"gradient": "mean |gradient|", "relative": "mean |gradient| / mean |weight|"}
CAPTION = (
    "The mean magnitude of the gradient in each convolution under standard BP: on the left as it "
    "is, on the right over the mean magnitude of the weights. Each line is the gradient of one "
    "mini-batch, at one iteration."
)


def compared(scale: str) -> Table:
    """Gradients by layer, absolute and relative to the weights (VGG-22, standard BP)."""
    block = relay_tables.table1(scale).blocks[-1]
    return Table("Figure 1: gradients by layer", (Block(block.title, block.data, block.rows[1:2]),))


def draw(production: Production) -> Drawn:
    """The figure of trained runs."""
    (block,) = production.table.blocks
    (row,) = block.rows
    ((training, _),) = row.test.members if row.test else ()
    folders = [production.runs[training, seed].folder for seed in production.options.seeds]
    layers = convolutions(production, folders[0])
    found = {quantity: measured(folders, quantity) for quantity in QUANTITIES}
    figure, panels = style.panels(1, 2, height=3.5)
    for axes, (quantity, label) in zip(panels, QUANTITIES.items()):
        over_layers(axes, [layers], found[quantity], label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="iteration", loc="outside lower center", ncols=6)
    style.title(figure, f"Gradients by layer, standard BP. {about(production, row.label)}")
    rows = [
        (iteration, layer, *(found[quantity][iteration][layer] for quantity in QUANTITIES))
        for iteration in sorted(found["gradient"])
        for layer in layers
    ]
    caption = f"{CAPTION} {about(production, row.label)}"
    return Drawn(figure, caption, ("iteration", "layer", *QUANTITIES), rows)


def convolutions(production: Production, folder: str) -> list[str]:
    """The names of a run's convolutions, in the order of its net."""
    net = production.engine.pb.NetParameter()
    run_folder.read(os.path.join(folder, "train_val.prototxt"), net)
    known = {layer.name for layer in net.layer if layer.type == "Convolution"}
    return [name for name in Run(folder).parts.get("trunk", ()) if name in known]


def measured(folders: list[str], quantity: str) -> Values:
    """The mean over runs of what their probes measured of all flows together."""
    runs = [Run(folder).measured(quantity).get("all") for folder in folders]
    for folder, values in zip(folders, runs):
        if not values:
            raise RelayError(
                f"{folder}: no probe.csv there, since the run was trained without --probe; move "
                "the folder away, and it is trained again"
            )
    first, *_ = probed = [values for values in runs if values]
    return {
        iteration: {
            layer: mean(values[iteration][layer] for values in probed) for layer in first[iteration]
        }
        for iteration in first
    }
