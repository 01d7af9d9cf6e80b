"""Auxiliary branches for a NetParameter, and the relay file that goes with them."""

from caffe_plain.phases import TRAIN, is_in_net

from ..errors import RelayError
from ..run_folder import STANDARD_STAGE
from .blueprint import TRAINING

SMALL_IMAGE = 64  # pixels per side; on larger maps GoogLeNet's auxiliary classifier fits


def names(count):
    """The branches' names: aux, or aux1, aux2, ..."""
    return ["aux"] if count == 1 else [f"aux{number}" for number in range(1, count + 1)]


def add_branches(net_param, trunk, proposal, make_head):
    """A copy of the NetParameter with a branch on each hung unit, for training only.

    make_head(name, bottom, label, classes): the layers of a branch.
    """
    label = _label(trunk.graph)
    classes = trunk.units[-1].shape[1]
    branches = {}
    for name, unit in zip(names(len(proposal.hung)), proposal.hung):
        after = trunk.graph.names[
            max(index for index in unit.layers if trunk.graph.types[index] != "Split")
        ]
        branches[after] = make_head(name, unit.blob, label, classes)
    grown = type(net_param)()
    grown.CopyFrom(net_param)
    del grown.layer[:]
    for layer in net_param.layer:
        grown.layer.add().CopyFrom(layer)
        if layer.name in branches and is_in_net(layer, TRAINING):
            for added in branches.pop(layer.name):
                del added.include[:]
                added.include.add(phase=TRAIN, not_stage=[STANDARD_STAGE])
                grown.layer.add().CopyFrom(added)
    return grown


def flow_lines(trunk, proposal):
    """[(loss, to)] of the relay file, the final loss first."""
    losses = [f"{name}_loss" for name in names(len(proposal.hung))]
    losses.append(trunk.graph.names[trunk.graph.final])
    return list(zip(losses, map(trunk.to_name, proposal.lowest)))[::-1]


def relay_text(trunk, proposal):
    """The relay file."""
    return "schedule: RELAY\n" + "".join(
        f'flow {{ loss: "{loss}" to: "{to}" }}\n' for loss, to in flow_lines(trunk, proposal)
    )


def spec_lines(trunk, proposal, head):
    """The same as Python, for the net.py of a model folder."""
    hung = ", ".join(
        f'"{unit.name}": {head}("{name}", classes={trunk.units[-1].shape[1]})'
        for name, unit in zip(names(len(proposal.hung)), proposal.hung)
    )
    flows = ", ".join(f'"{loss}": "{to}"' for loss, to in flow_lines(trunk, proposal))
    return f"branches={{{hung}}},\nflows={{{flows}}},"


def _label(graph):
    """The blob that the final loss compares the scores with."""
    scores = max(graph.feeders[graph.final], key=lambda index: graph.levels[index])
    for index, blob in zip(graph.feeders[graph.final], graph.bottoms[graph.final]):
        if index != scores:
            while graph.types[index] == "Split":
                blob, index = graph.bottoms[index][0], graph.feeders[index][0]
            return blob
    raise RelayError(
        f"loss {graph.names[graph.final]!r} has no label to share with auxiliary losses"
    )
