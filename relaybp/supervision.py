"""AuxNet's supervision ratio: how much of a loss's gradient comes to a block over the shortcuts.

With identity shortcuts, the gradient of a loss L with respect to the features x_l of block l is the
gradient at the block where the loss's own branch begins, and what the layers in between make of it.
The ratio is the size of the first over that of the whole,

    rms(dL / dx_end) / rms(dL / dx_l),

which is 1 at the end, and fades where the layers in between decide. With a step for each loss
(MULTI_WAY, PAIR_WISE), L is the loss whose branch begins nearest above block l, or on it. With one
step for all (STANDARD, JOINT), L is their weighted sum, and the end is the last block.

NOTE: the paper takes norms. Those of features that differ in size (stages) do not compare, so root
mean squares stand for them here, over all images of some training batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import RelayError
from .graph import Graph
from .schedules import Relay, Schedule

ALL = "all"  # the sum of the losses


@dataclass(frozen=True)
class Block:
    """A residual block: its name, the index of its sum in the net, the blob and the shape
    (C, H, W) of its features, and how many layers with weights are on the longest path up to it."""

    name: str
    index: int
    blob: str
    shape: tuple[int, ...]
    level: int


class Ratio(NamedTuple):
    """The supervision ratio of a block, and the loss (or ALL) that it is of."""

    block: Block
    loss: str
    value: float


class Supervision:
    """Measures the ratio of every block that a schedule trains, over batches that `add` looks at.

    Raises RelayError for a schedule, or a net, for which it is not defined.
    """

    def __init__(self, schedule: Schedule):
        self.net, self.keeping_diffs = schedule.net, schedule.engine.keeping_diffs
        graph = Graph(self.net)
        trunk = graph.ancestors(graph.final)
        self.blocks = [
            _block(graph, index) for index in sorted(trunk) if graph.types[index] == "Eltwise"
        ]
        if not self.blocks or isinstance(schedule, Relay):
            raise RelayError(
                "supervision ratio: expected a residual network with the schedule STANDARD, JOINT, "
                f"PAIR_WISE or MULTI_WAY; found {len(self.blocks)} residual blocks and "
                f"{type(schedule).__name__}"
            )
        losses = [[flow] for flow in schedule.flows] if schedule.steps_apart else [schedule.flows]
        self.passes = [_Pass(schedule, graph, flows, self.blocks) for flows in losses]

    def add(self) -> None:
        """Measure the batch of the last forward pass; the parameters' diffs are cleared."""
        with self.keeping_diffs(self.net):
            for each in self.passes:
                each.run()
                each.add()
        self.net.clear_param_diffs()

    def ratios(self) -> list[Ratio]:
        """The Ratio of each block, lowest first."""
        found = []
        for block in self.blocks:
            reaching = [each for each in self.passes if block in each.squares]
            if reaching:
                nearest = min(reaching, key=lambda each: each.end.index)
                found.append(Ratio(block, nearest.loss, nearest.ratio(block)))
        return found


class _Pass:
    """A backward pass, and the sums of mean squares of what comes to the features of each block."""

    def __init__(self, schedule: Schedule, graph: Graph, flows: list, blocks: list[Block]):
        self.net, self.loss = schedule.net, flows[0].loss if len(flows) == 1 else ALL
        self.run: Callable[[], None] = schedule.engine.backward(self.net, flows)
        layers = frozenset().union(*(flow.layers for flow in flows))
        self.holders = {
            block: _holders(graph, layers, block) for block in blocks if block.index in layers
        }
        self.squares = dict.fromkeys(self.holders, 0.0)
        self.end = max(self.squares, key=lambda block: block.index)

    def add(self) -> None:
        for block, names in self.holders.items():
            gradient = sum(np.asarray(self.net.blobs[name].diff, np.float64) for name in names)
            self.squares[block] += float(np.mean(np.square(gradient)))

    def ratio(self, block: Block) -> float:
        """Not a number where no gradient arrives."""
        here = self.squares[block]
        return float(np.sqrt(self.squares[self.end] / here)) if here else float("nan")


def _block(graph: Graph, index: int) -> Block:
    blob = graph.tops[index][0]
    shape = tuple(graph.net.blobs[blob].shape)[1:]
    return Block(graph.names[index], index, blob, shape, graph.levels[index])


def _holders(graph: Graph, layers: frozenset[int], block: Block) -> list[str]:
    """The blobs whose diffs add up to the gradient at the features of a block.

    A layer in place behind the sum overwrites the blob's own diff, but not those of its copies.
    """
    last = max(index for index, tops in enumerate(graph.tops) if block.blob in tops)
    (reader,) = graph.consumers[last, block.blob]
    if graph.types[reader] != "Split":
        return [block.blob]
    return [graph.tops[reader][place] for place in graph.passed_tops(layers, reader)]
