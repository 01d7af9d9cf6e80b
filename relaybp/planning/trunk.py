"""The trunk of a net: its chain of layers and blocks from the data to the final scores.

A unit is what lies between two blobs that every way from the data to the scores passes: a
convolution with what follows it in place, a pooling, a residual block, an inception module.
A stage is a run of units on maps of one size; it ends with the pooling that ends it, or before
the strided unit that does. Segments of the Relay Backpropagation paper are stages.
"""

from collections import namedtuple
from math import prod

from . import cost

# layers: of the unit, in order; blob: its top; shape: of the top; level: layers with weights so
# far; work: multiply-adds so far; index: its place in the trunk
Unit = namedtuple("Unit", "index name layers blob shape level work")

# Caffe's poolings round up and its unpadded convolutions trim; a stage's end divides by 2 or so
SHRINKS = 1.4


class Trunk:
    """Units and stages of a Graph's final loss."""

    def __init__(self, graph):
        self.graph = graph
        self.units = _units(graph)
        self.stages = _stages(graph, self.units)

    def stage_of(self, unit):
        """The stage that holds a unit."""
        return next(stage for stage in self.stages if unit in stage)

    def progress(self, unit):
        """How far up a unit's top is, 0 to 1: the mean of its shares of depth and of work."""
        last = self.units[-1]
        return (unit.level / last.level + unit.work / last.work) / 2

    def unit_at(self, index):
        """The unit that holds a layer, None outside the trunk."""
        return next((unit for unit in self.units if index in unit.layers), None)

    def below_branch(self, loss):
        """The unit above which the branch of an auxiliary loss (a layer's index) begins."""
        below = set(map(self.graph.behind_splits, self.graph.ancestors(loss)))
        units = filter(None, map(self.unit_at, below))
        return max(units, key=lambda unit: unit.index)

    def to_name(self, unit):
        """The name of a unit for `to`: its own if that stands for its first layer.

        A normalisation in front, which belongs to the unit below, may be part of what is named.
        """
        graph = self.graph
        first = min(index for index in unit.layers if graph.types[index] != "Split")
        below = graph.index[self.units[unit.index - 1].name] if unit.index else -1
        named = graph.named(unit.name)
        return unit.name if named and below < named[0] <= first else graph.names[first]


def is_spatial(unit):
    """Whether a unit's top is a map and not a vector."""
    return len(unit.shape) > 2 and prod(unit.shape[2:]) > 1


def has_weights(graph, unit):
    """Whether a unit has weights, and does not only pool."""
    return any(cost.learns(graph, index) for index in unit.layers)


def _units(graph):
    scores = max(graph.feeders[graph.final], key=lambda index: graph.levels[index])
    trunk = sorted(graph.ancestors(scores))
    costs = cost.multiply_adds(graph)
    pieces, here, waiting = [], [], {}
    for index in trunk:
        for feeder, blob in zip(graph.feeders[index], graph.bottoms[index]):
            waiting[feeder, blob].discard(index)
            if not waiting[feeder, blob]:
                del waiting[feeder, blob]
        for blob in graph.tops[index]:
            users = set(graph.consumers.get((index, blob), ())).intersection(trunk)
            if users or index == scores:
                waiting[index, blob] = users
        here.append(index)
        if len(waiting) == 1:
            pieces.append(here)
            here = []
    return _joined(graph, pieces, costs)


def _joined(graph, pieces, costs):
    """Units of the pieces between cuts: layers without weights join the piece before them."""
    joined = []
    for piece in pieces:
        opens = any(
            len(graph.layers[i].blobs)
            and cost.learns(graph, i)
            and graph.types[i] not in ("Scale", "Bias", "PReLU", "BN")
            for i in piece
        )
        if joined and not opens and not _pools(graph, piece):
            joined[-1].extend(piece)
        elif joined or opens:
            joined.append(list(piece))
    units, work = [], 0
    for layers in joined:
        work += sum(costs[i] for i in layers)
        blob = graph.tops[max(i for i in layers if graph.types[i] != "Split")][0]
        units.append(
            Unit(
                len(units),
                _name(graph, layers),
                tuple(layers),
                blob,
                tuple(graph.net.blobs[blob].shape),
                graph.levels[layers[-1]],
                work,
            )
        )
    return units


def _pools(graph, piece):
    return any(graph.types[index] in ("Pooling", "SPP") for index in piece)


def _name(graph, layers):
    """The name of the layer that makes a unit's top, before what follows in place."""
    for index in reversed(layers):
        if graph.types[index] not in (
            "ReLU",
            "ReLU6",
            "BatchNorm",
            "BN",
            "Scale",
            "Bias",
            "Dropout",
            "PReLU",
            "Split",
            "LRN",
            "Flatten",
        ):
            return graph.names[index]
    return graph.names[layers[0]]


def _stages(graph, units):
    stages, side, ended = [[]], None, False
    for unit in units:
        size = unit.shape[2] if is_spatial(unit) else 1
        shrinks = side is not None and side > SHRINKS * size
        if has_weights(graph, unit):
            if shrinks or ended:
                stages.append([])
            ended = False
        else:
            ended = shrinks  # a pooling: the next unit with weights starts a new stage
        stages[-1].append(unit)
        side = size
    return stages
