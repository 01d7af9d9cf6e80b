"""Activation layers: one value in, one value out. All of them may run in place.

bottom and top: any shape, the same. The options are in the message that `param_name` names.
"""

import math

import torch

from ..layer import TensorLayer, register
from ..proto import caffe_pb2
from .factor import scaled


def _shifted(x, shift):
    return x + shift if shift else x  # + 0 would make 0 of -0


class _FromTop(TensorLayer):
    """An activation whose backward reads what forward gave, not what it read."""

    reads_bottom = False
    reads_top = True


def _runs_in_place(layer):
    return layer.layer_param.bottom[:1] == layer.layer_param.top[:1]


@register
class ReLU(TensorLayer):
    """y = max(x, 0) + negative_slope min(x, 0)."""

    param_name = "relu_param"

    def setup(self, *shapes):
        # in place only the top is left, but a negative slope has turned its sign
        self.reads_top = _runs_in_place(self) and self.options.negative_slope >= 0
        self.reads_bottom = not self.reads_top

    def forward(self, x):
        slope = self.options.negative_slope
        if slope:
            return torch.nn.functional.leaky_relu(x, slope)
        return x.relu_() if self.overwrite else x.relu()

    def activation(self) -> tuple[str, tuple[float, ...]]:
        slope = self.options.negative_slope
        return ("leaky_relu", (slope,)) if slope else ("relu", ())

    def backward(self, diffs, bottoms, tops, wanted):
        slope = self.options.negative_slope
        values = bottoms[0] if self.reads_bottom else tops[0]
        if slope:
            return [torch.ops.aten.leaky_relu_backward(diffs[0], values, slope, False)]
        return [torch.ops.aten.threshold_backward(diffs[0], values, 0)]


@register
class PReLU(TensorLayer):
    """y = max(x, 0) + a min(x, 0) with a learned slope a for each channel.

    bottom, top: (N, C, ...). Blob: a, (C,), or one number with channel_shared; starts at 0.25
    unless `filler` says otherwise. He et al., 2015; Caffe's PReLULayer.
    """

    param_name = "prelu_param"

    def setup(self, *shapes):
        if len(shapes[0]) < 2:
            raise self.shape_error(f"needs a channel axis; bottom has shape {tuple(shapes[0])}")
        filler = caffe_pb2.FillerParameter(type="constant", value=0.25)
        if self.options.HasField("filler"):
            filler = self.options.filler
        self.add_param(() if self.options.channel_shared else (shapes[0][1],), filler)

    def reshape(self, *shapes):
        slopes = self.blobs[0].shape
        if slopes and slopes[0] != shapes[0][1]:
            raise self.shape_error(
                f"has slopes for {slopes[0]} channels; bottom has shape {tuple(shapes[0])}"
            )
        return [shapes[0]]

    def forward(self, x):
        return torch.where(x > 0, x, x * self._slope(x))

    def backward(self, diffs, bottoms, tops, wanted):
        return [torch.where(bottoms[0] > 0, diffs[0], diffs[0] * self._slope(bottoms[0]))]

    def backward_params(self, diffs, bottoms, tops):
        by_slope = diffs[0] * bottoms[0].clamp(max=0)
        axes = [i for i in range(by_slope.dim()) if i != 1 or self.options.channel_shared]
        self.blobs[0].accumulate_diff(by_slope.sum(axes))

    def _slope(self, x):
        slope = self.blobs[0].tensor.to(x.dtype)
        return slope.view((-1,) + (1,) * (x.dim() - 2)) if slope.dim() else slope


@register
class ELU(TensorLayer):
    """y = x where x > 0, else alpha (exp(x) - 1). Clevert et al., 2015."""

    param_name = "elu_param"
    reads_top = True

    def setup(self, *shapes):
        # the sign of x: as in ReLU
        self.reads_bottom = not _runs_in_place(self) or self.options.alpha < 0

    def forward(self, x):
        return torch.where(x > 0, x, self.options.alpha * torch.expm1(x.clamp(max=0)))

    def backward(self, diffs, bottoms, tops, wanted):
        positive = (bottoms[0] if self.reads_bottom else tops[0]) > 0
        return [torch.where(positive, diffs[0], diffs[0] * (tops[0] + self.options.alpha))]


@register
class Sigmoid(_FromTop):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x):
        return x.sigmoid()

    def backward(self, diffs, bottoms, tops, wanted):
        return [torch.ops.aten.sigmoid_backward(diffs[0], tops[0])]


@register
class TanH(_FromTop):
    """y = tanh(x)."""

    def forward(self, x):
        return x.tanh()

    def backward(self, diffs, bottoms, tops, wanted):
        return [torch.ops.aten.tanh_backward(diffs[0], tops[0])]


@register
class Swish(_FromTop):
    """y = x sigmoid(beta x). Ramachandran et al., 2017."""

    param_name = "swish_param"

    def forward(self, x):
        self.gate = scaled(x, self.options.beta).sigmoid()
        return x * self.gate

    def backward(self, diffs, bottoms, tops, wanted):
        inner = tops[0] * self.options.beta
        return [diffs[0] * (inner + self.gate * (1 - inner))]


@register
class AbsVal(TensorLayer):
    """y = |x|."""

    def forward(self, x):
        return x.abs()

    def backward(self, diffs, bottoms, tops, wanted):
        return [diffs[0] * bottoms[0].sign()]


@register
class BNLL(TensorLayer):
    """y = log(1 + exp(x)): the binomial normal log likelihood."""

    def forward(self, x):
        return torch.nn.functional.softplus(x, threshold=50)

    def backward(self, diffs, bottoms, tops, wanted):
        return [diffs[0] * bottoms[0].sigmoid()]


@register
class Clip(TensorLayer):
    """y = x, limited to min and max."""

    param_name = "clip_param"

    def forward(self, x):
        return x.clamp(self.options.min, self.options.max)

    def activation(self) -> tuple[str, tuple[float, ...]]:
        return "hardtanh", (self.options.min, self.options.max)

    def backward(self, diffs, bottoms, tops, wanted):
        inside = (bottoms[0] >= self.options.min) & (bottoms[0] <= self.options.max)
        return [diffs[0] * inside]


@register
class Threshold(TensorLayer):
    """y = 1 where x > threshold, else 0. It has no backward pass."""

    param_name = "threshold_param"

    def forward(self, x):
        return (x > self.options.threshold).to(x.dtype)


@register
class Power(TensorLayer):
    """y = (shift + scale x)^power.

    Backward divides the top by what was raised, as Caffe does, unless the power is 1 or 2: where
    that is 0 or infinite, so is NaN the gradient of any other power.
    """

    param_name = "power_param"

    def setup(self, *shapes):
        self.factor = self.options.power * self.options.scale
        self.reads_bottom = self.factor != 0 and self.options.power != 1
        self.reads_top = self.reads_bottom and self.options.power != 2

    def forward(self, x):
        inner, power = self._inner(x), self.options.power
        if abs(power) == 0.5:  # as a number it would mean a root, which differs at -inf and -0
            power = torch.full((), power, dtype=x.dtype, device=x.device)
        return inner.pow(power)

    def backward(self, diffs, bottoms, tops, wanted):
        if not self.reads_bottom:
            return [scaled(diffs[0], self.factor)]
        inner = self._inner(bottoms[0])
        slope = tops[0] / inner if self.reads_top else inner
        return [diffs[0] * (slope * self.factor)]

    def _inner(self, x):
        return _shifted(scaled(x, self.options.scale), self.options.shift)


class _WithBase(TensorLayer):
    """What Exp and Log share: a base, e unless it is given."""

    def setup(self, *shapes):
        base = self.options.base
        if base != -1 and base <= 0:
            raise self.error(f"base must be positive, or -1 for e; found {base}")
        self.log_base = math.log(base) if base != -1 else 1.0


@register
class Exp(_WithBase, _FromTop):
    """y = base^(shift + scale x)."""

    param_name = "exp_param"

    def forward(self, x):
        inner = scaled(x, self.options.scale * self.log_base)
        return (inner + self.options.shift * self.log_base).exp()

    def backward(self, diffs, bottoms, tops, wanted):
        return [scaled(diffs[0] * tops[0], self.options.scale * self.log_base)]


@register
class Log(_WithBase):
    """y = log(shift + scale x) to the base."""

    param_name = "log_param"

    def setup(self, *shapes):
        super().setup(*shapes)
        if not self.log_base:
            raise self.error("base 1 has no logarithm; give another base, or -1 for e")

    def forward(self, x):
        return self._inner(x).log() / self.log_base

    def backward(self, diffs, bottoms, tops, wanted):
        factor = self.options.scale / self.log_base
        return [scaled(diffs[0] / self._inner(bottoms[0]), factor)]

    def _inner(self, x):
        return _shifted(scaled(x, self.options.scale), self.options.shift)
