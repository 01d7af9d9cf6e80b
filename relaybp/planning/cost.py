"""The cost of flows: multiply-adds and bytes per layer, per flow, and for each way to run them.

A layer with weights costs as many multiply-adds for its weights' gradient as forward, and as many
again for each data gradient that passes through it. Everything else counts as zero.
"""

from collections import namedtuple
from math import prod

import caffe_plain.cost

from ..graph import Graph

BYTES = 4  # of a number, in single precision

# of one training step, multiply-adds: forward, weight gradients, data gradients
Step = namedtuple("Step", "forward weights data")


def total(step):
    """All multiply-adds of a step."""
    return step.forward + step.weights + step.data


def multiply_adds(graph: Graph) -> list[int]:
    """For each layer: the multiply-adds of its forward pass."""
    return [_of_layer(graph, index) for index in range(len(graph.names))]


def _of_layer(graph, index):
    layer, blobs = graph.layers[index], graph.net.blobs
    return caffe_plain.cost.multiply_adds(
        layer.type,
        [blob.shape for blob in layer.blobs],
        [blobs[name].shape for name in graph.bottoms[index]],
        [blobs[name].shape for name in graph.tops[index]],
    )


def parameter_bytes(graph, layers):
    """The bytes of the parameters that learn in `layers`."""
    return BYTES * sum(
        prod(blob.shape)
        for index in layers
        if learns(graph, index)
        for blob in graph.layers[index].blobs
    )


def diff_bytes(graph, layers):
    """The bytes of the data diffs that a flow through `layers` writes, blobs in place once."""
    gradients = data_gradients(graph, layers)
    names = {
        blob
        for index in gradients
        for blob, feeder in zip(graph.bottoms[index], graph.feeders[index])
        if feeder in layers
    }
    return BYTES * sum(prod(graph.net.blobs[name].shape) for name in names)


def learns(graph, index):
    """Whether a layer has weights; BatchNorm's statistics do not count."""
    return len(graph.layers[index].blobs) > 0 and graph.types[index] != "BatchNorm"


def data_gradients(graph, layers):
    """The layers of a flow that must pass a gradient down to weights of the flow."""
    leads, found = set(), set()
    for index in sorted(layers):
        below = any(feeder in leads for feeder in graph.feeders[index])
        if below:
            found.add(index)
        if below or learns(graph, index):
            leads.add(index)
    return found


def heads(graph):
    """The layers that lead to auxiliary losses only."""
    return set().union(*(graph.head(loss) for loss in graph.losses if loss != graph.final))


def standard_step(graph):
    """Standard BP: without the auxiliary branches, the final loss to the bottom."""
    return _step(graph, [graph.ancestors(graph.final)], graph.ancestors(graph.final), fused=True)


def joint_step(graph):
    """Multi-loss: every loss to the bottom, in one backward pass."""
    everything = set().union(*(graph.ancestors(loss) for loss in graph.losses))
    return _step(graph, [everything], everything, fused=True)


def flows_step(graph, flows, fused):
    """The flows in one sweep that shares their work, or one backward pass for each."""
    everything = set().union(*(graph.ancestors(loss) for loss in graph.losses))
    return _step(graph, [flow.layers for flow in flows], everything, fused)


def _step(graph, flows, forward, fused):
    costs = multiply_adds(graph)
    passing = [data_gradients(graph, layers) for layers in flows]
    weights = data = 0
    for index, cost in enumerate(costs):
        here = [number for number, layers in enumerate(flows) if index in layers]
        weights += cost * (min(len(here), 1) if fused else len(here))
        down = {
            frozenset(i for i in flows[number] if i <= index) if fused else number
            for number in here
            if index in passing[number]
        }
        data += cost * len(down)
    return Step(sum(costs[index] for index in forward), weights, data)
