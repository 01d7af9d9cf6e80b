"""ConvLSTM: an LSTM of images, for videos (ConvLSTM-for-Caffe)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_plain.geometry import convolved, window

from ... import device
from ...layer import Shape, Tensors, register
from .recurrent import Unrolled


@register
class ConvLSTM(Unrolled):
    """Long short-term memory of images: what LSTM multiplies is convolved, and cells reach gates.

    bottoms: x (T, N, C, H, W), cont (T, N), 0 where a sequence begins; with expose_hidden the
    states before the first step, h and c, (1, N, K, H, W); tops: h (T, N, K, H, W), K num_output;
    with expose_hidden h and c after the last step. Otherwise a forward starts with the states that
    the previous one ended with. z = W_x * x + W_h * (cont h') + b, and P c' is added to the input,
    forget and output gates unless disable_hadamard, also where a sequence begins. Blobs: W_x of
    the four gates; W_h and b of each gate; P of three gates, of c's sizes from axis_hadamard on
    (3, H and W, unless told), 1 at first. Options: lstm_conv_param, lstm_debug_param,
    recurrent_param. Shi et al., 2015; ConvLSTM-for-Caffe, whose static input, second
    lstm_conv_param, ignore_x and expose are refused.
    """

    bottom_count = (2, 4)
    top_count = (1, 3)
    param_name = "lstm_debug_param"
    gate_axis = 1
    inputs, hidden, biases = range(4), range(4, 12, 2), range(5, 12, 2)

    def setup(self, *shapes: Shape) -> None:
        layer, first = self.layer_param, tuple(shapes[0])
        self.is_exposed = layer.recurrent_param.expose_hidden
        expected = 4 if self.is_exposed else 2
        if len(shapes) != expected or len(layer.top) != expected - 1 or len(first) != 5:
            raise self.error(
                f"takes {expected} bottoms, the first (T, N, C, H, W), and {expected - 1} tops; "
                f"found {len(shapes)} bottoms, the first {first}, and {len(layer.top)} tops"
            )
        if len(layer.lstm_conv_param) != 1 or self.options.ignore_x or self.options.expose:
            raise self.error("takes one lstm_conv_param, and neither ignore_x nor expose")
        options = layer.lstm_conv_param[0]
        self.outputs, self.window = options.num_output, window(options, error=self.error)
        if self.outputs < 1 or options.group != 1 or not options.bias_term:
            raise self.error("needs num_output, group: 1 and bias_term: true")
        for _ in range(4):
            self.add_param((self.outputs, first[2], *self.window.kernel), options.weight_filler)
        for _ in range(4):
            self.add_param((self.outputs, self.outputs, *self.window.kernel), options.weight_filler)
            self.add_param((self.outputs,), options.bias_filler)
        if not self.options.disable_hadamard:
            self._add_peepholes((1, first[1], self.outputs, *first[3:]))

    def _add_peepholes(self, cells: Shape) -> None:
        start, count = self.options.axis_hadamard, self.options.num_axes_hadamard
        if start < 2 or count < 1 or start + count > 5:
            raise self.error(
                f"axis_hadamard {start} and num_axes_hadamard {count} must name axes from 2 to 4"
            )
        for _ in range(3):
            self.add_param(cells[start : start + count])
            self.blobs[-1].data[...] = 1
        self.spread = (1,) * (start - 1) + tuple(cells[start : start + count])
        self.spread += (1,) * (5 - start - count)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        first, cont, *states = map(tuple, shapes)
        sizes = tuple(map(convolved, first[3:], *self.window))
        state = (1, first[1], self.outputs, *first[3:])
        if len(first) != 5 or first[2] != self.blobs[0].shape[1] or sizes != first[3:]:
            raise self.shape_error(
                f"needs x (T, N, {self.blobs[0].shape[1]}, H, W) and convolutions that keep the "
                f"size, with stride 1 and a pad; found {first}, which become {sizes}"
            )
        if cont != first[:2] or any(shape != state for shape in states):
            raise self.shape_error(
                f"needs cont {first[:2]} and states {state}; found {cont} and {states}"
            )
        if len(self.blobs) > 12 and any(
            size not in (1, own) for size, own in zip(self.spread, state[1:], strict=True)
        ):
            raise self.shape_error(
                f"its peepholes are for cells {self.spread}; found cells {state[1:]}"
            )
        return [(first[0], *state[1:]), *[state] * len(states)]

    def forward(self, *bottoms: Tensor) -> Tensors:
        x, cont, *states = (bottom.to(device.dtype()) for bottom in bottoms)
        shape = (x.shape[1], self.outputs, *x.shape[3:])
        first = [state[0] for state in states] if self.is_exposed else self.first_states(shape, x)
        h = self.run(x, cont, first)
        last = [state[None] for state in self.states or ()] if self.is_exposed else []
        return [h, *last]

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """A convolution."""
        return torch.convolution(device.layout(x), weight, None, *self._geometry())

    def product_backward(self, dz: Tensor, x: Tensor, weight: Tensor, mask: Sequence[bool]):
        """The diffs of x and weight, where `mask` asks for them."""
        dz, x = device.layout(dz), device.layout(x)
        return torch.ops.aten.convolution_backward(
            dz, x, weight, None, *self._geometry(), (*mask, False)
        )[:2]

    def _geometry(self) -> tuple:
        own = self.window
        return own.stride, own.pad, own.dilation, False, (0, 0), 1

    def _peepholes(self, like: Tensor) -> list[Tensor]:
        return [blob.tensor.to(like.dtype).view(self.spread) for blob in self.blobs[12:]]

    def peephole(self, c: Tensor) -> Tensor | float:
        """What the cells c add to the gates: nothing to the candidate."""
        parts = [weight * c for weight in self._peepholes(c)]
        return torch.cat([*parts, torch.zeros_like(c)], 1) if parts else 0.0

    def peephole_backward(self, dz: Tensor) -> Tensor | float:
        """The diff of the cells that `peephole` got."""
        pairs = zip(self._peepholes(dz), dz.chunk(4, 1), strict=False)
        return sum((weight * part for weight, part in pairs), start=0.0)

    def more_gradients(self, dz: Tensor) -> None:
        """The peepholes' diffs: sums of dz c' over what they are the same for."""
        if len(self.blobs) == 12:
            return
        cells = torch.stack([step[1] for step in self.steps])
        axes = [0] + [i + 1 for i, size in enumerate(self.spread) if size == 1]
        for index, part in zip(range(12, len(self.blobs)), dz.chunk(4, 2), strict=False):
            gradient = (part * cells).sum(axes).view(self.blobs[index].shape)
            self.accumulate([index], [gradient])
