"""Recurrent layers: RNN, LSTM, and LSTMUnit, one step of an LSTM."""

import math

import torch
from torch.nn.functional import linear

from .. import device
from ..layer import TensorLayer, register


class _Recurrent(TensorLayer):
    """What RNN and LSTM share: h_t follows from z_t = W_x x_t + b + W_s s + W_h (cont_t h_{t-1}).

    bottoms: x (T, N, ...), cont (T, N), 0 where a sequence begins and 1 where it goes on; then
    optionally s (N, ...), the same in all steps; with expose_hidden the states before the first
    step, (1, N, num_output) each. tops: the output (T, N, num_output); with expose_hidden the
    states after the last step. Otherwise a forward starts with the states that the previous one
    ended with. As in Caffe, no gradient passes through states that enter or leave. Blobs: W_x, b,
    W_s if there is s, W_h. Options: recurrent_param. Caffe's RecurrentLayer.
    """

    bottom_count = (2, 5)
    top_count = (1, 3)
    param_name = "recurrent_param"
    replays = False  # its states go from one forward pass to the next
    gates = 1  # numbers of z for each of h
    state_count = 1  # h, and what else a step passes to the next
    states = None

    def setup(self, *shapes):
        options = self.options
        if options.num_output < 1:
            raise self.error("num_output is missing; give the length of the hidden state")
        exposed = self.state_count if options.expose_hidden else 0
        self.has_static = len(shapes) == 3 + exposed
        if len(shapes) - self.has_static != 2 + exposed:
            raise self.error(
                f"takes {2 + exposed} bottoms, or {3 + exposed} with a static input; "
                f"found {len(shapes)}"
            )
        if len(self.layer_param.top) != 1 + exposed:
            raise self.error(f"makes {1 + exposed} tops; found {len(self.layer_param.top)}")
        rows = self.gates * options.num_output
        self.add_param((rows, math.prod(shapes[0][2:])), options.weight_filler)
        self.add_param((rows,), options.bias_filler)
        if self.has_static:
            self.add_param((rows, math.prod(shapes[2][1:])), options.weight_filler)
        self.hidden_weight = len(self.blobs)  # index of its blob
        self.add_param((rows, options.num_output), options.weight_filler)

    def reshape(self, *shapes):
        x, cont, *rest = (tuple(shape) for shape in shapes)
        if len(x) < 2 or cont != x[:2]:
            raise self.shape_error(
                f"bottom 0 must be (T, N, ...) and bottom 1 (T, N); found {x} and {cont}"
            )
        if math.prod(x[2:]) != self.blobs[0].shape[1]:
            raise self.shape_error(
                f"the weights are for {self.blobs[0].shape[1]} inputs per step; "
                f"bottom 0 has shape {x}"
            )
        if self.has_static and rest.pop(0)[0] != x[1]:
            raise self.shape_error(
                f"bottom 2, the static input, must have {x[1]} sequences as "
                f"bottom 0; found shape {tuple(shapes[2])}"
            )
        state = (1, x[1], self.options.num_output)
        if any(shape != state for shape in rest):
            raise self.shape_error(f"states must have the shape {state}; found {rest}")
        return [(*x[:2], self.options.num_output)] + [state] * len(rest)

    def forward(self, *bottoms):
        # what comes from outside may have another precision
        x, cont, *rest = (bottom.to(device.dtype()) for bottom in bottoms)
        steps, batch = x.shape[:2]
        cont = cont.unsqueeze(-1)  # (T, N, 1)
        weight, bias, *_ = weights = [blob.tensor.to(x.dtype) for blob in self.blobs]
        z = linear(x.reshape(steps * batch, -1), weight, bias).view(steps, batch, -1)
        if self.has_static:
            z = z + linear(rest[0].reshape(batch, -1), weights[2])
        states = self._first_states(x, rest[self.has_static :])
        self.steps, hidden = [], []
        for t in range(steps):
            carried = states[0] * cont[t]
            at_gates = torch.addmm(z[t], carried, weights[self.hidden_weight].T)
            states, saved = self.step(at_gates, states, cont[t])
            self.steps.append((carried, cont[t], saved))
            hidden.append(states[0])
        self.states = states
        exposed = [state.unsqueeze(0) for state in states] if self.options.expose_hidden else []
        return (self.output(torch.stack(hidden)), *exposed)

    def _first_states(self, x, given):
        if given:
            return [state[0] for state in given]
        shape = (x.shape[1], self.options.num_output)
        if self.states is None or self.states[0].shape != shape:
            return [x.new_zeros(shape) for _ in range(self.state_count)]
        return [state.to(x) for state in self.states]

    def _backward_to_gates(self, dy):
        """The diffs of z, (T, N, rows)."""
        dy = dy.to(device.dtype())
        weight = self.blobs[self.hidden_weight].tensor.to(dy.dtype)
        dhidden, dz = self.output_backward(dy), []
        dstates = [torch.zeros_like(dhidden[0]) for _ in range(self.state_count)]
        for dh, (_, cont, saved) in zip(reversed(dhidden), reversed(self.steps), strict=True):
            at_gates, dothers = self.step_backward(dstates[0] + dh, dstates[1:], saved)
            dz.append(at_gates)
            dstates = [at_gates @ weight * cont, *dothers]
        return torch.stack(dz[::-1])

    def backward(self, diffs, bottoms, tops, wanted):
        if diffs[0] is None:
            return [None] * len(bottoms)
        return self._to_bottoms(self._backward_to_gates(diffs[0]), bottoms, wanted)

    def backward_params(self, diffs, bottoms, tops):
        if diffs[0] is not None:
            self._to_params(self._backward_to_gates(diffs[0]), diffs[0], bottoms)

    def backward_both(self, diffs, bottoms, tops, wanted):
        if diffs[0] is None:
            return [None] * len(bottoms)
        dz = self._backward_to_gates(diffs[0])
        self._to_params(dz, diffs[0], bottoms)
        return self._to_bottoms(dz, bottoms, wanted)

    def _to_bottoms(self, dz, bottoms, wanted):
        result = [None] * len(bottoms)
        if wanted[0]:
            dx = dz @ self.blobs[0].tensor.to(dz.dtype)
            result[0] = dx.to(bottoms[0].dtype).view(bottoms[0].shape)
        if self.has_static and wanted[2]:
            dstatic = dz.sum(0) @ self.blobs[2].tensor.to(dz.dtype)
            result[2] = dstatic.to(bottoms[2].dtype).view(bottoms[2].shape)
        return result

    def _to_params(self, dz, dy, bottoms):
        rows = dz.flatten(0, 1)  # (T N, rows)
        gradients = [rows.T @ bottoms[0].reshape(len(rows), -1).to(dz.dtype), rows.sum(0)]
        if self.has_static:
            gradients.append(dz.sum(0).T @ bottoms[2].reshape(dz.shape[1], -1).to(dz.dtype))
        gradients.append(rows.T @ torch.cat([carried for carried, _, _ in self.steps]))
        self._accumulate(gradients + self.output_gradients(dy.to(dz.dtype)))

    def _accumulate(self, gradients):
        for blob, gradient, want in zip(
            self.blobs, gradients, self.param_propagate_down, strict=True
        ):
            if want:
                blob.accumulate_diff(gradient)

    def allows_backward(self, index):
        return index == 0 or (index == 2 and self.has_static)

    def output(self, hidden):
        """The first top, from all h: (T, N, num_output)."""
        return hidden

    def output_backward(self, dy):
        return dy

    def output_gradients(self, dy):
        """The gradients of the parameters that only `output` has."""
        return []


@register
class RNN(_Recurrent):
    """h_t = tanh(z_t), o_t = tanh(W_o h_t + b_o); see the base class. The output is o.

    Blobs: W_x, b, W_s if there is s, W_h, W_o, b_o. Caffe's RNNLayer.
    """

    def setup(self, *shapes):
        super().setup(*shapes)
        size = self.options.num_output
        self.add_param((size, size), self.options.weight_filler)
        self.add_param((size,), self.options.bias_filler)

    def step(self, z, states, cont):
        h = z.tanh()
        return [h], h

    def step_backward(self, dh, dothers, h):
        return dh * (1 - h * h), []

    def output(self, hidden):
        self.hidden = hidden
        weight, bias = (blob.tensor.to(hidden.dtype) for blob in self.blobs[-2:])
        self.y = linear(hidden, weight, bias).tanh()
        return self.y

    def _before_tanh(self, dy):
        return dy * (1 - self.y * self.y)

    def output_backward(self, dy):
        return self._before_tanh(dy) @ self.blobs[-2].tensor.to(dy.dtype)

    def output_gradients(self, dy):
        rows = self._before_tanh(dy).flatten(0, 1)
        return [rows.T @ self.hidden.flatten(0, 1), rows.sum(0)]


@register
class LSTM(_Recurrent):
    """Long short-term memory: z_t are the gates of LSTMUnit; see the base class.

    The output is h, the states are h and c; rows of the weights: input, forget, output gate, then
    the candidate, num_output each. Hochreiter and Schmidhuber, 1997; Caffe's LSTMLayer.
    """

    gates = 4
    state_count = 2

    def step(self, z, states, cont):
        c, h, saved = unit(states[1], z, cont)
        return [h, c], saved

    def step_backward(self, dh, dothers, saved):
        dc, dz = unit_backward(dothers[0], dh, saved)
        return dz, [dc]


@register
class LSTMUnit(TensorLayer):
    """One step of an LSTM.

    bottoms: c' (1, N, D), gate inputs z (1, N, 4 D), cont (1, N); tops: c and h, (1, N, D).
    i, f, o = sigmoid(z_i), cont sigmoid(z_f), sigmoid(z_o); c = f c' + i tanh(z_g),
    h = o tanh(c). Caffe's LSTMUnitLayer.
    """

    bottom_count = (3, 3)
    top_count = (2, 2)

    def reshape(self, *shapes):
        c, z, cont = (tuple(shape) for shape in shapes)
        if len(c) != 3 or z != (1, c[1], 4 * c[2]) or cont != (1, c[1]) or c[0] != 1:
            raise self.shape_error(
                f"bottoms must be (1, N, D), (1, N, 4 D) and (1, N); found {c}, {z} and {cont}"
            )
        return [c, c]

    def forward(self, c, z, cont):
        return unit(c, z, cont.to(z.dtype).unsqueeze(-1))[:2]

    def backward(self, diffs, bottoms, tops, wanted):
        c, z, cont = bottoms
        saved = unit(c, z, cont.to(z.dtype).unsqueeze(-1))[2]
        dc, dh = (torch.zeros_like(c) if diff is None else diff for diff in diffs)
        return [*unit_backward(dc, dh, saved), None]

    def allows_backward(self, index):
        return index != 2


def unit(c_before, z, cont, axis=-1):
    """One step of an LSTM: c, h, and what `unit_backward` needs; `axis` is that of z's gates."""
    i, f, o, g = z.chunk(4, axis)
    i, f, o, g = i.sigmoid(), f.sigmoid() * cont, o.sigmoid(), g.tanh()
    c = f * c_before + i * g
    tanh_c = c.tanh()
    return c, o * tanh_c, (c_before, i, f, o, g, tanh_c)


def unit_backward(dc, dh, saved, axis=-1):
    """The diffs of c' and z."""
    c_before, i, f, o, g, tanh_c = saved
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = torch.cat(
        [
            dc * g * i * (1 - i),
            dc * c_before * f * (1 - f),
            dh * tanh_c * o * (1 - o),
            dc * i * (1 - g * g),
        ],
        axis,
    )
    return dc * f, dz
