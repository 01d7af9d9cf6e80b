"""A plan of inference: the steps of a pass, those of own kernels run together as chains.

A plan holds for the shapes, precision and parameters of the pass after which it was made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from .. import device
from ..catalogue.utility import Concat
from ..graph.folded import Folded
from ..graph.inference import Step
from ..kernels import steps as kernels
from .chain import Chain, Memory, own_call
from .running import infer_step


class Plan:
    """Runs the steps that have just run one by one; `spread`: see Inference.

    singly: the calls for one image, None where nothing is computed, of the first steps that take
    one image after the other; see by_image.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        spread: Callable[[], None],
        singly: Sequence[kernels.Call | None] = (),
    ):
        self._parts: list[Callable[[], list]] = []
        # whether a NaN comes out where it would if the layers ran one by one
        self.keeps_nan = True
        memory, singles = Memory(), len(singly)
        joins = [number < singles or joins_chain(step) for number, step in enumerate(steps)]
        pairs = zip(joins, steps, strict=True)
        for can_join, found in itertools.groupby(pairs, lambda pair: pair[0]):
            group = [step for _, step in found]
            if can_join and (singly or any(own_call(step.node.layer) for step in group)):
                chain = Chain(group, singly, memory, spread)
                self._parts.append(chain.run)
                self.keeps_nan &= chain.keeps_nan
            else:
                self._parts += [lambda step=step: infer_step(step, spread) for step in group]
                self.keeps_nan &= not any(isinstance(step.node.layer, Folded) for step in group)
            singly = ()

    def run(self) -> list:
        """Run what comes after the sources; return the weighted losses."""
        return [loss for part in self._parts for loss in part()]


def joins_chain(step: Step) -> bool:
    """Whether a step can be part of a chain."""
    node, layer = step.node, step.node.layer
    if any(node.loss_weights):
        return False
    if layer.shares_data:
        return all(blob.shape == node.bottoms[0].shape for blob in node.tops)
    return own_call(layer) is not None or _concatenates(node)


def _concatenates(node):
    """Whether a node is a Concat of channels that a kernel can copy."""
    return (
        type(node.layer) is Concat
        and node.layer.axis == 1
        and kernels.takes(device.dtype())
        and all(
            len(blob.shape) == 4 and blob.count and blob.shape[1] % kernels.LANES == 0
            for blob in node.bottoms
        )
    )
