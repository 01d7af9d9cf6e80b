"""A plan of inference: the steps of a pass, those of own kernels run together by one call.

What only such steps read never becomes a tensor: it lies in memory of the plan, and sums and
concatenations are made in place. A plan holds for the shapes, precision and parameters of the pass
after which it was made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from .. import device
from ..blob import Blob
from ..catalogue.utility import Concat
from ..graph.inference import Step
from ..kernels import steps as kernels
from .running import infer_step


class Plan:
    """Runs the steps that have just run one by one; `spread`: see Inference."""

    def __init__(self, steps: Sequence[Step], spread: Callable[[], None]):
        self._parts: list[Callable[[], list]] = []
        memory = _Memory()
        for joins, group in itertools.groupby(steps, _joins):
            group = list(group)
            if joins and any(_own_call(step.node.layer) for step in group):
                self._parts.append(_Chain(group, memory, spread).run)
            else:
                self._parts += [lambda step=step: infer_step(step, spread) for step in group]

    def run(self) -> list:
        """Run what comes after the sources; return the weighted losses."""
        return [loss for part in self._parts for loss in part()]


def _joins(step):
    """Whether a step can be part of a chain."""
    node, layer = step.node, step.node.layer
    if any(node.loss_weights):
        return False
    if layer.shares_data:
        return all(blob.shape == node.bottoms[0].shape for blob in node.tops)
    return _own_call(layer) is not None or _concatenates(node)


def _own_call(layer):
    """The layer's own kernel, if it computes in the precision that is set."""
    call = layer.own_call()
    return call if call is not None and call.dtype == device.dtype() else None


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
        self.pointers = []  # if it has none: (Step, field, channel) that point to its tensor

    def point(self, tensor):
        """Let the kernels find the value in `tensor`."""
        begin, size = tensor.data_ptr(), tensor.element_size()
        for step, field, channel in self.pointers:
            setattr(step, field, begin + channel * size)


class _Memory:
    """Tensors that values take turns in."""

    def __init__(self):
        self._free = []

    def take(self, shape):
        count = torch.Size(shape).numel()
        fitting = [tensor for tensor in self._free if tensor.numel() >= count]
        if not fitting:
            return torch.empty(count, dtype=device.dtype())
        best = min(fitting, key=torch.Tensor.numel)
        self._free = [tensor for tensor in self._free if tensor is not best]
        return best

    def give(self, tensor):
        self._free.append(tensor)


class _Chain:
    """Steps of own kernels, of Concat and of layers that share data, in one call."""

    def __init__(self, steps, memory, spread):
        self._spread = spread
        self._done = [blob for step in steps for blob in step.done]
        self._values: dict[Blob, _Value] = {}  # what each blob holds at the end
        self._inputs, self._leaving = [], []  # Values
        self._sharing = []  # (node, the Value of its bottom and tops)
        self._calls = []  # (step, Call, image, other or None, top, channel of the top)
        done = set(self._done)
        for number, step in enumerate(steps):
            self._note(number, step.node, done)
        self._table = kernels.Table([call for _, call, *_ in self._calls])
        self._place(memory)

    def _note(self, number, node, done):
        """Write down the values that a node reads and makes, and the calls for it."""
        values = [self._read(blob, number) for blob in node.bottoms]
        if node.layer.shares_data:
            self._values.update(dict.fromkeys(node.tops, values[0]))
            self._sharing.append((node, values[0]))
            if not done.issuperset(node.tops):
                self._let_leave(values[0])
            return
        (blob,), call = node.tops, _own_call(node.layer)
        can_be_part = call is not None and len(values) == 1
        top = self._values[blob] = _Value(blob, number, can_be_part)
        if blob not in done:
            self._let_leave(top)
        if call is not None:
            self._calls.append((number, call, *values, *[None] * (2 - len(values)), top, 0))
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
                self._calls.append((number, copy, value, None, top, channel))
            channel += value.shape[1]

    def _place(self, memory):
        """Give values memory for as long as they are needed, and point the kernels to it."""
        alive = []
        for step, (number, _, image, other, top, channel) in zip(
            self._table.steps, self._calls, strict=True
        ):
            for value in [value for value in alive if value.last < number]:
                memory.give(value.memory)
                alive.remove(value)
            home, channel = top.home, channel + top.channel
            if home.memory is None and not home.leaves:
                if other in alive and other.last == number and other is not image:
                    home.memory = other.memory  # the sum replaces one of its terms
                    alive.remove(other)
                else:
                    home.memory = memory.take(home.shape)
                alive.append(home)
            step.top_pixel = home.shape[1]
            _point(step, "image", image, 0)
            _point(step, "top", home, channel)
            if other is not None:
                _point(step, "other", other, 0)
        for value in alive:
            memory.give(value.memory)

    def run(self):
        """Run the steps; what leaves gets fresh memory. There are no losses."""
        held = []
        for value in self._inputs:
            held.append(device.layout(device.cast(value.blob.tensor, device.dtype())))
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
                    blob.share_data(node.bottoms[0])
        for blob in self._done:
            if not blob.hidden:
                blob.drop_data(self._spread)
        return []


def _point(step, field, value, channel):
    if value.memory is None:
        value.pointers.append((step, field, channel))
    else:
        setattr(step, field, value.memory.data_ptr() + channel * value.memory.element_size())
