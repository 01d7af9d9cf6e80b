"""Flows: the layers that each loss trains, as BackwardFromTo ranges of a net.

The layers of a flow are those that lead to its loss and stand, in the net's order, at its lowest
layer or above. Layers of another branch that lie between are skipped, so a flow is a short list
of ranges. Everything here needs only pycaffe's public names.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from caffe_plain.errors import nearest
from caffe_plain.names import file_name, quoted

from .errors import RelayError
from .graph import Graph
from .loss_weights import weigh
from .relay_file import ONE_STEP_PER_LOSS, schedule_name

# loss: name of the loss layer; to: what it trains down to; layers: frozenset of layer indices;
# ranges: ((start, end), ...) as net._backward takes them, topmost first; blobs: the tops that
# hold the loss; weight: what its gradient is multiplied by; depth: see Graph.depth
Flow = namedtuple("Flow", "loss to layers ranges blobs weight depth")

BOTTOM = "the bottom"


def plan(net: Any, relay: Any, net_param: Any, source: str = "relay.prototxt") -> list[Flow]:
    """The checked Flows of a RelayParameter for `net`, shallow losses last.

    net_param: the net's NetParameter; source: names the relay file in errors. Under RELAY every
    loss needs a flow; the other schedules let a loss without one train all layers below it, JOINT
    every loss. A loss of weight 0 trains nothing and gets no Flow.
    """
    graph, schedule = Graph(net), schedule_name(relay)
    reach = {flow.loss: BOTTOM if schedule == "JOINT" else flow.to for flow in relay.flow}
    if schedule != "RELAY":
        for index in graph.losses:
            reach.setdefault(graph.names[index], BOTTOM)
    found = [_flow(graph, loss, to, source) for loss, to in reach.items()]
    _check_losses(graph, reach, source)
    flows = [flow for flow in weigh(graph, found, relay) if flow.weight]
    for flow in flows if schedule in ONE_STEP_PER_LOSS else ():
        file_name(quoted(flow.loss), f"{source}: loss")  # PREFIX_iter_N.LOSS.solverstate
    flows.sort(key=lambda flow: -max(flow.layers))
    _check_parameters(graph, flows, frozen(graph, net_param, relay, source), source)
    return flows


def frozen(
    graph: Graph, net_param: Any, relay: Any = None, source: str = "relay.prototxt"
) -> set[str]:
    """The names of the layers with parameters that do not learn.

    They are BatchNorms, layers whose every blob has lr_mult 0 in the NetParameter, and those that
    `frozen` in the relay file names, one by one or as blocks.
    """
    blobs = {name: len(layer.blobs) for name, layer in zip(graph.names, graph.layers)}
    rates = {layer.name: [spec.lr_mult for spec in layer.param] for layer in net_param.layer}
    still = {
        name
        for index, name in enumerate(graph.names)
        if graph.types[index] == "BatchNorm"
        or not any(rates.get(name, ()))
        and len(rates.get(name, ())) >= blobs[name]
    }
    for name in relay.frozen if relay else ():
        if not graph.named(name):
            raise RelayError(
                f"{source}: frozen layer {name!r} does not exist; " + nearest(name, graph.names)
            )
        still.update(graph.names[index] for index in graph.named(name))
    return {name for name in still if blobs[name]}


def _flow(graph, loss, to, source):
    """The Flow of one loss, with the weight that the net gives it."""
    loss_names = [graph.names[index] for index in graph.losses]
    if loss not in graph.index:
        raise RelayError(
            f"{source}: flow of loss {loss!r}: the train net has no such layer; "
            + nearest(loss, loss_names)
        )
    top = graph.index[loss]
    if top not in graph.losses and not graph.types[top].endswith("Loss"):
        raise RelayError(
            f"{source}: flow of loss {loss!r}: that layer is no loss "
            f"(loss_weight 0); losses are: {', '.join(loss_names)}"
        )
    lowest = [0] if to is BOTTOM else graph.named(to)
    if not lowest:
        raise RelayError(
            f"{source}: flow of loss {loss!r}: to: {to!r} is neither a layer nor the "
            f"prefix of a block; {nearest(to, graph.names)}"
        )
    leading = graph.ancestors(top)
    if to is not BOTTOM and not leading.intersection(lowest):
        raise RelayError(
            f"{source}: flow of loss {loss!r}: to: {to!r} does not lead to that loss; "
            "name a layer below it"
        )
    layers = frozenset(index for index in leading if index >= min(lowest))
    # a loss that also feeds a Split (a loss and a consumer) begins at the Split
    layers |= {
        consumer
        for blob in graph.tops[top]
        for consumer in graph.consumers.get((top, blob), ())
        if graph.types[consumer] == "Split"
    }
    blobs = tuple(graph.loss_blobs(top))
    weight = graph.weights[blobs[0]] if blobs else 0
    return Flow(loss, to, layers, ranges(layers), blobs, weight, graph.depth(top))


def ranges(layers):
    """The contiguous ranges of a set of indices, ((start, end), ...) with start >= end."""
    found = []
    for index in sorted(layers, reverse=True):
        if found and found[-1][1] == index + 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return tuple(tuple(pair) for pair in found)


def _check_losses(graph, used, source):
    for index in graph.losses:
        name = graph.names[index]
        if name not in used:
            raise RelayError(
                f"{source}: loss {name!r} is used by no flow; add "
                f'flow {{ loss: "{name}" to: ... }}, or give it loss_weight 0'
            )


def _check_parameters(graph, flows, frozen, source):
    """Refuse a layer in no flow that could learn; one that leads to no flow's loss could not."""
    reached = set().union(*(flow.layers for flow in flows))
    leading = set().union(*(graph.ancestors(graph.index[flow.loss]) for flow in flows))
    for index in sorted(leading - reached):
        name = graph.names[index]
        if name not in frozen and len(graph.layers[index].blobs):
            raise RelayError(
                f"{source}: no flow reaches layer {name!r}, so it would never learn; lower a "
                f'flow\'s `to`, or freeze the layer: frozen: "{name}" (or lr_mult: 0 in the net)'
            )
