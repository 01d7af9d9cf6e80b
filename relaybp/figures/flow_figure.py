"""Figure 2 of Relay Backpropagation: what each loss trains, beside standard BP."""

from __future__ import annotations

import os
from typing import Any

from .. import flows, models, relay_file, run_folder
from ..planning.blueprint import graph_of, without_branches
from ..planning.picture import Drawing, figure_of
from ..planning.table import span
from ..planning.trunk import Trunk
from ..reproduce.produce import Production
from ..reproduce.spec import Table
from ..style import PAGE
from .drawn import Drawn

MODEL = "vgg19_relay"  # the paper's example
HEADER = ("method", "loss", "weight", "from", "to", "layers with weights")
CAPTION = (
    "{network} (a) by standard BP, (b) by Relay BP. Each loss is a circle; the arrow of "
    "its colour spans the layers that it trains, and a layer has the colours of all losses that "
    "train it. Neighbouring ranges overlap in one segment. Gray boxes have no weights."
)


def compared(scale: str) -> Table:
    """The network with the flow of each loss in a colour, beside standard BP (nothing to train)."""
    return Table("Figure 2: which loss trains which layers", ())


def draw(production: Production) -> Drawn:
    """The figure, for which nothing is trained."""
    caffe = production.engine.caffe
    folder, _ = models.find(MODEL)
    path = os.path.join(folder, "relay.prototxt")
    net = run_folder.read(
        os.path.join(folder, "train_val.prototxt"), production.engine.pb.NetParameter()
    )
    plain = without_branches(production.engine.pb, net)
    standard = relay_file.RelayParameter(schedule=relay_file.SCHEDULES.index("STANDARD"))
    methods = {
        "standard BP": planned(caffe, plain, standard),
        "Relay BP": planned(caffe, net, relay_file.read_relay(path)),
    }
    drawings = [
        Drawing(f"({letter}) {net.name}, {method}", trunk, found, relay_file.schedule_name(relay))
        for letter, (method, (trunk, found, relay)) in zip("ab", methods.items())
    ]
    rows = [
        (method, flow.loss, flow.weight, units[0].name, units[-1].name, len(units))
        for method, (trunk, found, _) in methods.items()
        for flow in found
        for units in [span(trunk, flow)]
    ]
    figure = figure_of(drawings, PAGE / max(drawing.width for drawing in drawings))
    return Drawn(figure, CAPTION.format(network=net.name), HEADER, rows)


def planned(caffe: Any, net: Any, relay: Any) -> tuple[Trunk, list[flows.Flow], Any]:
    """The trunk of a net, and its flows under a RelayParameter, which is handed on."""
    graph = graph_of(caffe, net)
    return Trunk(graph), flows.plan(graph.net, relay, net), relay
