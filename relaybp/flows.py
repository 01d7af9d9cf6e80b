"""Flows: the layers that each loss trains, as BackwardFromTo ranges of a net.

The layers of a flow are those between its loss and its lowest layer that lead to that loss.
Layers of another branch that lie between are skipped, so a flow is a short list of ranges.
Everything here needs only pycaffe's public names: layer names, bottom_names, top_names.
"""

from collections import namedtuple

from .errors import RelayError, nearest

# loss: name of the loss layer; layers: frozenset of layer indices;
# ranges: [(start, end), ...] as net._backward takes them, topmost first
Flow = namedtuple("Flow", "loss to layers ranges")


def plan(net, relay, frozen, source="relay.prototxt"):
    """The Flows of a RelayParameter for `net`, shallow losses last, and checked.

    `frozen`: names of layers whose parameters do not learn.
    """
    graph = Graph(net)
    flows = [_flow(graph, flow.loss, flow.to, source) for flow in relay.flow]
    flows.sort(key=lambda flow: -max(flow.layers))
    _check_losses(graph, flows, source)
    _check_parameters(net, graph, flows, set(frozen) | set(relay.frozen), source)
    return flows


class Graph:
    """Who feeds whom, by layer index."""

    def __init__(self, net):
        self.names = list(net._layer_names)
        self.index = {name: index for index, name in enumerate(self.names)}
        self.types = [layer.type for layer in net.layers]
        tops, bottoms = net.top_names, net.bottom_names
        self.tops = [list(tops[name]) for name in self.names]
        self.bottoms = [list(bottoms[name]) for name in self.names]
        self.feeders, self.consumers = [], {}
        writer = {}
        for index in range(len(self.names)):
            self.feeders.append([writer[blob] for blob in self.bottoms[index]])
            for blob in self.bottoms[index]:
                self.consumers.setdefault((writer[blob], blob), []).append(index)
            writer.update((blob, index) for blob in self.tops[index])
        self.weights = dict(net.blob_loss_weights)
        self.losses = [index for index in range(len(self.names))
                       if self.types[index] != "Split" and self._is_loss(index)]

    def _is_loss(self, index):
        """Whether a top has a loss weight, itself or where a Split hands it on."""
        for blob in self.tops[index]:
            handed_on = [top for consumer in self.consumers.get((index, blob), ())
                         if self.types[consumer] == "Split" for top in self.tops[consumer]]
            if any(self.weights.get(name) for name in [blob] + handed_on):
                return True
        return False

    def ancestors(self, index):
        """The layers that lead to layer `index`, itself included."""
        found, waiting = set(), [index]
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting.extend(self.feeders[here])
        return found

    def named(self, name):
        """The indices that a name stands for: the layer, or the block that it is the stem of.

        "res4a" is res4a_branch1, res4a_branch2a, ..., and the layer res4a itself.
        """
        return [index for index, layer in enumerate(self.names)
                if layer == name or layer.startswith(name) and layer[len(name)] in "_/-."]

    def passed_tops(self, layers, index):
        """The positions of layer `index`'s tops that lead on within `layers`, or are losses."""
        return frozenset(
            i for i, blob in enumerate(self.tops[index])
            if self.weights.get(blob)
            or any(consumer in layers for consumer in self.consumers.get((index, blob), ())))


def _flow(graph, loss, to, source):
    loss_names = [graph.names[index] for index in graph.losses]
    if loss not in graph.index:
        raise RelayError(f"{source}: flow of loss {loss!r}: the train net has no such layer; "
                         + nearest(loss, loss_names))
    if loss not in loss_names:
        raise RelayError(f"{source}: flow of loss {loss!r}: that layer is no loss "
                         f"(loss_weight 0); losses are: {', '.join(loss_names)}")
    lowest = graph.named(to)
    if not lowest:
        raise RelayError(f"{source}: flow of loss {loss!r}: to: {to!r} is neither a layer nor the "
                         f"prefix of a block; {nearest(to, graph.names)}")
    top = graph.index[loss]
    leading = graph.ancestors(top)
    if not leading.intersection(lowest):
        raise RelayError(f"{source}: flow of loss {loss!r}: to: {to!r} does not lead to that loss; "
                         "name a layer below it")
    layers = frozenset(index for index in leading if index >= min(lowest))
    # a loss that also feeds a Split (a loss and a consumer) begins at the Split
    layers |= {consumer for blob in graph.tops[top]
               for consumer in graph.consumers.get((top, blob), ())
               if graph.types[consumer] == "Split"}
    return Flow(loss, to, layers, ranges(layers))


def ranges(layers):
    """The contiguous ranges of a set of indices, [(start, end), ...] with start >= end."""
    found = []
    for index in sorted(layers, reverse=True):
        if found and found[-1][1] == index + 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return [tuple(pair) for pair in found]


def _check_losses(graph, flows, source):
    used = {flow.loss for flow in flows}
    for index in graph.losses:
        name = graph.names[index]
        if name not in used:
            raise RelayError(f"{source}: loss {name!r} is used by no flow; add "
                             f'flow {{ loss: "{name}" to: ... }}, or give it loss_weight 0')


def _check_parameters(net, graph, flows, frozen, source):
    reached = set().union(*(flow.layers for flow in flows)) if flows else set()
    known = set(graph.names)
    for name in frozen - known:
        raise RelayError(f"{source}: frozen layer {name!r} does not exist; {nearest(name, known)}")
    for name, index in graph.index.items():
        if index not in reached and name not in frozen and len(net.layers[index].blobs):
            raise RelayError(
                f"{source}: no flow reaches layer {name!r}, so it would never learn; lower a "
                f'flow\'s `to`, or freeze the layer: frozen: "{name}" (or lr_mult: 0 in the net)')


def frozen_layers(net_param):
    """Layers of a NetParameter that do not learn: BatchNorm, and those with every lr_mult 0."""
    return [layer.name for layer in net_param.layer
            if layer.type == "BatchNorm"
            or (layer.param and all(spec.HasField("lr_mult") and spec.lr_mult == 0
                                    for spec in layer.param))]
