"""Image by image: whether the first steps of a plan take the images of a batch one after the other.

Near the images, what a layer makes of a batch is larger than a cache. Taken through several layers
before the next image begins, an image finds in the cache what the layer before made of it. Further
up, where weights are large and images small, a batch is faster. Which holds how far is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .. import device
from ..graph.folded import Folded
from ..graph.inference import Step
from ..kernels import choice
from ..kernels import steps as kernels
from .chain import own_call
from .plan import Plan, joins_chain


def fastest(steps: Sequence[Step], spread: Callable[[], None]) -> Sequence[kernels.Call | None]:
    """The calls for one image, of as many first steps as are faster so; see Plan."""
    calls = _calls(steps)
    front = steps[: len(calls)]

    def beginning(count):
        return lambda: _Front(calls[:count], lambda: Plan(front, spread, calls[:count]))

    makers = {"together": beginning(0)}
    makers.update((f"{count} steps", beginning(count)) for count in _cuts(front))
    details = (
        steps[0].node.bottoms[0].shape[:1] if steps else (),
        [(call.kernel, call.counts, call.windows, call.dtype) for call in calls if call],
    )
    return choice.make_fastest("by image", details, makers, lambda made: made.run, gain=1).calls


class _Front:
    """The first steps of a plan, planned once they are run."""

    def __init__(self, calls, make):
        self.calls, self._make, self._plan = calls, make, None

    def run(self):
        self._plan = self._plan or self._make()
        self._plan.run()


def _calls(steps):
    """The calls for one image, None where nothing is computed, of all first steps that have one."""
    calls, made = [], set()
    for step in steps:
        node, call = step.node, None
        shapes = [blob.shape for blob in (*node.bottoms, *node.tops)]
        if any(len(shape) != 4 or shape[0] < 2 or shape[0] != shapes[0][0] for shape in shapes):
            break
        if made.isdisjoint(node.tops) and not set(node.tops).isdisjoint(node.bottoms):
            break  # in place in what comes from outside, which must stay to be measured again
        made.update(node.tops)
        if isinstance(node.layer, Folded) and not any(node.loss_weights):
            call = node.layer.call_for_one(*shapes[: len(node.bottoms)])
        elif joins_chain(step):
            call = own_call(node.layer)
            call = None if call is None else call.for_one()
        else:
            break
        if isinstance(node.layer, Folded) and (call is None or call.dtype != device.dtype()):
            break
        calls.append(call)
    return calls


def _cuts(front):
    """After how many steps all may go on together: where images have become smaller, or at last."""
    cuts = {0: len(front)}
    for number, step in enumerate(front, 1):
        after = math.prod(step.node.tops[0].shape[2:])
        if after < math.prod(step.node.bottoms[0].shape[2:]):
            cuts[after] = number
    return sorted(set(cuts.values()) - {0})
