"""Lstm, as CTPN has it, and what it shares with ConvLSTM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from ..recurrent import unit, unit_backward


class Unrolled(TensorLayer):
    """An LSTM whose gates are z_t = W_x x_t + W_h (cont_t h_{t-1}) + b, products of some kind.

    `inputs`, `hidden`, `biases`: the indices of the blobs that make W_x, W_h and b, each for one
    gate or for all four: input, forget, output, candidate. A derived class defines the products.
    No gradient passes through states that enter or leave a sequence.
    """

    replays = False  # states may go from one forward pass to the next
    gate_axis = -1  # of the gates of one step
    inputs: Sequence[int] = (0,)
    hidden: Sequence[int] = (1,)
    biases: Sequence[int] = (2,)
    states: list[Tensor] | None = None  # h and c after the last step

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """`weight` times rows x (B, ...)."""
        raise NotImplementedError

    def product_backward(self, dz: Tensor, x: Tensor, weight: Tensor, mask: Sequence[bool]):
        """The diffs of x and weight, where `mask` asks for them."""
        raise NotImplementedError

    def peephole(self, c: Tensor) -> Tensor | float:
        """What the cells c add to the gates. Default: nothing."""
        return 0.0

    def peephole_backward(self, dz: Tensor) -> Tensor | float:
        """The diff of the cells that `peephole` got."""
        return 0.0

    def limited(self, dz: Tensor) -> Tensor:
        """The diffs of the gates, as they go on. Default: as they are."""
        return dz

    def run(self, x: Tensor, cont: Tensor, states: list[Tensor]) -> Tensor:
        """h of all steps, (T, N, ...), from x (T, N, ...), cont (T, N) and the states before."""
        steps, batch = x.shape[:2]
        weight, bias = self._of(self.hidden, x), self._of(self.biases, x)
        z = self.product(x.flatten(0, 1), self._of(self.inputs, x)).unflatten(0, (steps, batch))
        z = z + bias.view(-1, *(1,) * (states[0].dim() - 2))
        self.steps, made = [], []
        for at_gates, one in zip(z, cont, strict=True):
            h, c = states
            one = one.view(-1, *(1,) * (h.dim() - 1))
            carried = h * one
            at_gates = at_gates + self.product(carried, weight) + self.peephole(c)
            new_c, new_h, saved = unit(c, at_gates, one, self.gate_axis)
            self.steps.append((carried, c, one, saved))
            states = [new_h, new_c]
            made.append(new_h)
        self.states = states
        return torch.stack(made)

    def _of(self, which: Sequence[int], like: Tensor) -> Tensor:
        return torch.cat([self.blobs[index].tensor.to(like.dtype) for index in which])

    def first_states(self, shape: Shape, x: Tensor) -> list[Tensor]:
        """The states that the previous forward ended with, or zeros."""
        if self.states is None or tuple(self.states[0].shape) != tuple(shape):
            return [x.new_zeros(shape) for _ in range(2)]
        return [state.to(x) for state in self.states]

    def _gates(self, dy: Tensor) -> Tensor:
        """The diffs of z, (T, N, ...)."""
        dy = dy.to(device.dtype())
        weight, found = self._of(self.hidden, dy), []
        dh, dc = torch.zeros_like(dy[0]), torch.zeros_like(dy[0])
        for one_dy, (carried, _, cont, saved) in zip(dy.flip(0), self.steps[::-1], strict=True):
            dc, dz = unit_backward(dc, dh + one_dy, saved, self.gate_axis)
            dz = self.limited(dz)
            found.append(dz)
            dh = self.product_backward(dz, carried, weight, (True, False))[0] * cont
            dc = dc + self.peephole_backward(dz)
        return torch.stack(found[::-1])

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if diffs[0] is None or not wanted[0]:
            return [None] * len(bottoms)
        return self._to_bottoms(self._gates(diffs[0]), bottoms, wanted)

    def backward_params(self, diffs: Diffs, bottoms: Tensors, tops: Tensors) -> None:
        if diffs[0] is not None:
            self._to_params(self._gates(diffs[0]), bottoms)

    def backward_both(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if diffs[0] is None:
            return [None] * len(bottoms)
        dz = self._gates(diffs[0])
        self._to_params(dz, bottoms)
        return self._to_bottoms(dz, bottoms, wanted)

    def _to_bottoms(self, dz: Tensor, bottoms: Tensors, wanted: Sequence[bool]) -> Diffs:
        below: list[Tensor | None] = [None] * len(bottoms)
        if wanted[0]:
            rows, x = dz.flatten(0, 1), bottoms[0]
            mine = x.flatten(0, 1).to(rows.dtype)
            dx = self.product_backward(rows, mine, self._of(self.inputs, rows), (True, False))[0]
            below[0] = dx.reshape(x.shape).to(x.dtype)
        return below

    def _to_params(self, dz: Tensor, bottoms: Tensors) -> None:
        rows = dz.flatten(0, 1)
        carried = torch.cat([step[0] for step in self.steps])
        for which, x in ((self.inputs, bottoms[0].flatten(0, 1)), (self.hidden, carried)):
            weight = self._of(which, rows)
            gradient = self.product_backward(rows, x.to(rows.dtype), weight, (False, True))[1]
            self.accumulate(which, gradient.chunk(len(which)))
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        self.accumulate(self.biases, rows.sum(axes).chunk(len(self.biases)))
        self.more_gradients(dz)

    def more_gradients(self, dz: Tensor) -> None:
        """Add to the diffs of further blobs, from the diffs of all gates. Default: none."""

    def accumulate(self, which: Sequence[int], gradients: Sequence[Tensor]) -> None:
        """Add to the diffs of the blobs `which`, those that learn."""
        for index, gradient in zip(which, gradients, strict=True):
            if self.param_propagate_down[index]:
                self.blobs[index].accumulate_diff(gradient)

    def allows_backward(self, index: int) -> bool:
        return index == 0


@register
class Lstm(Unrolled):
    """Long short-term memory, as CTPN has it.

    bottom 0: x, (T, N, I); bottom 1 (optional): cont, (T, N), 0 where a sequence begins: then a
    forward goes on with the states of the previous one; without it, it starts with zeros; top:
    (T, N, num_output). Blobs: W_x (4 H, I), W_h (4 H, H), b (4 H,), for the gates of LSTM. Options:
    lstm_param. junhyukoh's and CTPN's forks; x of two axes, with batch_size, is not supported.

    NOTE: clipping_threshold cuts the diffs of the gates off, so that backward is not linear.
    """

    bottom_count = (1, 2)
    param_name = "lstm_param"

    def setup(self, *shapes: Shape) -> None:
        options, first = self.options, tuple(shapes[0])
        if options.num_output < 1:
            raise self.error("num_output is missing; give the length of the hidden state")
        if len(first) != 3:
            raise self.shape_error(f"needs x (T, N, I); found {first}")
        rows = 4 * options.num_output
        self.add_param((rows, first[2]), options.weight_filler)
        self.add_param((rows, options.num_output), options.weight_filler)
        self.add_param((rows,), options.bias_filler)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        first, *cont = map(tuple, shapes)
        if len(first) != 3 or first[2] != self.blobs[0].shape[1]:
            raise self.shape_error(f"needs x (T, N, {self.blobs[0].shape[1]}); found {first}")
        if cont and cont[0][:2] != first[:2]:
            raise self.shape_error(f"bottom 1 must be {first[:2]}; found {cont[0]}")
        return [(*first[:2], self.options.num_output)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        x, *cont = (bottom.to(device.dtype()) for bottom in bottoms)
        shape = (x.shape[1], self.options.num_output)
        if cont:
            return self.run(x, cont[0].reshape(x.shape[:2]), self.first_states(shape, x))
        goes_on = x.new_ones(x.shape[:2])
        goes_on[0] = 0
        return self.run(x, goes_on, [x.new_zeros(shape) for _ in range(2)])

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """A matrix product."""
        return linear(x, weight)

    def product_backward(self, dz: Tensor, x: Tensor, weight: Tensor, mask: Sequence[bool]):
        """The diffs of x and weight, where `mask` asks for them."""
        return dz @ weight if mask[0] else None, dz.T @ x if mask[1] else None

    def limited(self, dz: Tensor) -> Tensor:
        """Cut off at clipping_threshold, unless it is 0."""
        most = self.options.clipping_threshold
        return dz.clamp(-most, most) if most > 0 else dz
