"""A chain: steps of own kernels, of Concat and of layers that share data, which run by one call.

What only its steps read never becomes a tensor: it lies in memory of the plan, and sums and
concatenations are made in place. The first steps may take one image after the other through all of
them: what they make of an image stays in the cache, and takes memory for one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from .. import device
from ..blob import Blob
from ..graph.inference import Step
from ..kernels import steps as kernels
from ..kernels.memory import lasting
from ..layer import TensorLayer
from .running import forward_node


def own_call(layer: TensorLayer) -> kernels.Call | None:
    """The layer's own kernel, if it computes in the precision that is set."""
    call = layer.own_call()
    return call if call is not None and call.dtype == device.dtype() else None


class Memory:
    """Tensors that values take turns in."""

    def __init__(self) -> None:
        self._free: list[torch.Tensor] = []

    def take(self, shape: Sequence[int]) -> torch.Tensor:
        """Memory for values of a shape, in the precision that is set."""
        count = math.prod(shape)
        fitting = [tensor for tensor in self._free if tensor.numel() >= count]
        if not fitting:
            return lasting((count,), device.dtype())
        best = min(fitting, key=torch.Tensor.numel)
        self._free = [tensor for tensor in self._free if tensor is not best]
        return best

    def give(self, tensor: torch.Tensor) -> None:
        """Take memory back."""
        self._free.append(tensor)


class _Value:
    """What a step makes, and where it lies."""

    def __init__(self, blob, maker, can_be_part=False):
        self.blob, self.shape, self.maker = blob, blob.shape, maker
        self.can_be_part = can_be_part  # of a concatenated value, as it is made
        self.last = maker  # the step that reads it last
        self.readers = 0
        self.leaves = False  # the chain, as the tensor of a blob
        self.home, self.channel = self, 0  # the concatenated value that it is a part of, if any
        self.memory = None  # of the plan
        self.pointers = []  # if it has none: (Step, field, place) that point into its tensor

    def point(self, tensor):
        """Let the kernels find the value in `tensor`."""
        begin, size = tensor.data_ptr(), tensor.element_size()
        for step, field, place in self.pointers:
            setattr(step, field, begin + place * size)


class _Run(NamedTuple):
    """A call that a step makes, and its values."""

    number: int  # of the step
    call: kernels.Call
    image: _Value
    other: _Value | None
    top: _Value
    channel: int = 0  # of the top


class Chain:
    """Runs `steps`; singly: the calls for one image, or None, of the first, which run so."""

    def __init__(
        self,
        steps: Sequence[Step],
        singly: Sequence[kernels.Call | None],
        memory: Memory,
        spread: Callable[[], None],
    ):
        self._steps, self._spread, self._singles = steps, spread, len(singly)
        self._done = [(blob, blob.shape) for step in steps for blob in step.done]
        self._values: dict[Blob, _Value] = {}  # what each blob holds at the end
        self._inputs: list[_Value] = []
        self._leaving: list[_Value] = []
        self._sharing: list[tuple] = []  # (node, the Value of its bottom and tops)
        self._runs: list[_Run] = []
        done = {blob for blob, _ in self._done}
        for number, step in enumerate(steps):
            single = number < self._singles
            call = singly[number] if single else own_call(step.node.layer)
            self._note(number, step.node, call, done)
        self.keeps_nan = all(run.call.keeps_nan for run in self._runs)
        self._table, targets = self._tabulate()
        self._place(targets, memory)

    def _note(self, number, node, call, done):
        """Write down the values that a node reads and makes, and the calls for it."""
        values = [self._read(blob, number) for blob in node.bottoms]
        if node.layer.shares_data:
            self._values.update(dict.fromkeys(node.tops, values[0]))
            self._sharing.append((node, values[0]))
            if not done.issuperset(node.tops):
                self._let_leave(values[0])
            return
        (blob,) = node.tops
        top = self._values[blob] = _Value(blob, number, call is not None and len(values) == 1)
        if blob not in done:
            self._let_leave(top)
        if call is not None:
            self._runs.append(_Run(number, call, *values, *[None] * (2 - len(values)), top))
        else:
            self._concatenate(number, values, top)

    def _read(self, blob, number):
        if blob not in self._values:
            self._values[blob] = _Value(blob, -1)
            self._inputs.append(self._values[blob])
        value = self._values[blob]
        value.last, value.readers = number, value.readers + 1
        return value

    def _let_leave(self, value):
        if not value.leaves and value.maker >= 0:
            self._leaving.append(value)
        value.leaves = True

    def _concatenate(self, number, values, top):
        """Let values be made where they are parts of `top`, or else be copied."""
        channel = 0
        for value in values:
            if value.can_be_part and value.readers == 1 and not value.leaves:
                value.home, value.channel = top, channel
            else:
                copy = kernels.copy(value.shape, device.dtype())
                copy = copy.for_one() if number < self._singles else copy
                self._runs.append(_Run(number, copy, value, None, top, channel))
            channel += value.shape[1]

    def _tabulate(self):
        """The table of all calls, and for each run its Steps there: one, or one for each image."""
        single = [run for run in self._runs if run.number < self._singles]
        images = single[0].top.shape[0] if single else 0
        table = kernels.Table(
            [run.call for run in single] * images + [run.call for run in self._runs[len(single) :]]
        )
        by_image = images * len(single)
        targets = [table.steps[at : by_image : len(single)] for at in range(len(single))]
        return table, targets + [[step] for step in table.steps[by_image:]]

    def _place(self, targets, memory):
        """Give values memory for as long as they are needed, and point the kernels to it."""
        alive = []
        for run in self._runs:  # all images of these must be there while each image is computed
            home = run.top.home
            if run.number < self._singles and self._is_whole(home):
                self._give_memory(home, memory, alive)
        for run, steps in zip(self._runs, targets, strict=True):
            for value in [value for value in alive if value.last < run.number]:
                memory.give(value.memory)
                alive.remove(value)
            home, other = run.top.home, run.other
            is_free = other in alive and other.last == run.number and other is not run.image
            if is_free and home.memory is None and not home.leaves:
                home.memory = other.memory  # the sum replaces one of its terms
                alive[alive.index(other)] = home
            self._give_memory(home, memory, alive)
            self._point(steps, "image", run.image, 0)
            self._point(steps, "top", home, run.channel + run.top.channel)
            if other is not None:
                self._point(steps, "other", other, 0)
            for step in steps:
                step.top_pixel = home.shape[1]
        for value in alive:
            memory.give(value.memory)

    def _give_memory(self, value, memory, alive):
        if value.memory is None and not value.leaves:
            whole = self._is_whole(value)
            value.memory = memory.take(value.shape if whole else (1, *value.shape[1:]))
            alive.append(value)

    def _is_whole(self, value):
        """Whether all images of a value are there at a time."""
        return value.maker < 0 or value.leaves or value.last >= self._singles

    def _point(self, steps, field, value, channel):
        image = math.prod(value.shape[1:]) if self._is_whole(value) else 0
        for number, step in enumerate(steps):
            value.pointers.append((step, field, channel + number * image))
        if value.memory is not None:
            value.point(value.memory)

    def run(self) -> list:
        """Run the steps; what leaves gets fresh memory. There are no losses."""
        held = []
        for value in self._inputs:
            tensor = value.blob.tensor
            if tensor.shape != value.shape:  # as many as a layer has found in its bottoms
                return self._run_plainly()
            held.append(device.layout(device.cast(tensor, device.dtype())))
            value.point(held[-1])
        for value in self._leaving:
            held.append(kernels.new(value.shape, device.dtype()))
            value.point(held[-1])
        self._table.run()
        for value, tensor in zip(self._leaving, held[len(self._inputs) :], strict=True):
            value.blob.tensor = tensor
        for node, value in self._sharing:
            for blob in node.tops:
                if value.leaves and self._values[blob] is value:
                    self._restore_shape(blob, value.shape)
                    blob.share_data(node.bottoms[0])
        for blob, shape in self._done:
            if not blob.hidden:
                blob.drop_data(self._spread)
                self._restore_shape(blob, shape)
        return []

    def _restore_shape(self, blob, shape):
        """Where another pass has left another, whose shapes the nodes know, too."""
        if blob.shape != shape:
            blob.reshape(*shape)
            for step in self._steps:
                for node in (step.node, *step.members):
                    node.shapes = None

    def _run_plainly(self):
        """Run the layers one by one, for images of other shapes than those of the plan."""
        for step in self._steps:
            for node in step.members:
                forward_node(node)
        return []
