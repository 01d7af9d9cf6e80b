"""Scale and Bias: a learned (or given) factor and summand for each channel."""

import torch

from ..layer import TensorLayer, register


class _PerChannel(TensorLayer):
    """A factor or summand broadcast over the first bottom, learned or from a second bottom."""

    bottom_count = (1, 2)

    def _setup_operand(self, shapes, default_one=False):
        options = self.options
        axis = self._operand_axis(shapes)
        if len(shapes) == 1:
            end = len(shapes[0]) if options.num_axes == -1 else axis + options.num_axes
            if options.num_axes < -1 or end > len(shapes[0]):
                raise self.error(
                    f"axis {options.axis} and num_axes {options.num_axes} reach "
                    f"outside the bottom's shape {tuple(shapes[0])}"
                )
            self.add_param(tuple(shapes[0][axis:end]), self._filler(options, default_one))

    def _filler(self, options, default_one):
        if default_one and not options.HasField("filler"):
            filler = type(options.filler)()
            filler.CopyFrom(options.filler)
            filler.type, filler.value = "constant", 1
            return filler
        return options.filler

    def _operand_axis(self, shapes):
        # a scalar second bottom broadcasts over everything, whatever `axis` says
        if len(shapes) > 1 and len(shapes[1]) == 0:
            return 0
        return self.canonical_axis(self.options.axis, shapes[0])

    def reshape(self, *shapes):
        operand = shapes[1] if len(shapes) > 1 else self.blobs[0].shape
        self.axis = axis = self._operand_axis(shapes)
        if tuple(shapes[0][axis : axis + len(operand)]) != tuple(operand):
            raise self.shape_error(
                f"the operand has shape {tuple(operand)}, which does not match "
                f"the bottom {tuple(shapes[0])} from axis {axis}"
            )
        return [shapes[0]]

    @property
    def _is_per_channel(self):
        return self.axis == 1 and bool(self.blobs) and len(self.blobs[0].shape) == 1

    def _broadcast(self, operand, x):
        """`operand` with the axes that make it broadcast against `x`."""
        behind = x.dim() - self.axis - operand.dim()
        return operand.to(x.dtype).view(tuple(operand.shape) + (1,) * behind)

    def _reduce(self, value, operand):
        """The sum of `value` over the axes that `operand` was broadcast over."""
        last = self.axis + operand.dim()
        axes = [axis for axis in range(value.dim()) if not self.axis <= axis < last]
        return value.sum(axes) if axes else value


@register
class Scale(_PerChannel):
    """y = scale * x (+ bias): what BatchNorm leaves out.

    bottom 0, top: (N, C, ...); bottom 1 (optional): the factor, else it is learned, of the shape
    of `num_axes` axes of the bottom from `axis` (default (C,)), and starts at 1.
    Blobs: factor, then the bias with bias_term. Options: scale_param. Caffe's ScaleLayer.
    """

    param_name = "scale_param"

    def setup(self, *shapes):
        self._setup_operand(shapes, default_one=True)
        if self.options.bias_term:
            shape = shapes[1] if len(shapes) > 1 else self.blobs[0].shape
            self.add_param(shape, self.options.bias_filler)

    def _operand(self, bottoms):
        return bottoms[1] if len(bottoms) > 1 else self.blobs[0].tensor

    def forward(self, *bottoms):
        x, scale = bottoms[0], self._operand(bottoms)
        if self.options.bias_term:
            bias = self._broadcast(self.blobs[-1].tensor, x)
            return torch.addcmul(bias, x, self._broadcast(scale, x))
        return x * self._broadcast(scale, x)

    def per_channel(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self._is_per_channel or len(self.layer_param.bottom) > 1:
            return None
        factor = self.blobs[0].tensor.double()
        shift = self.blobs[1].tensor.double() if self.options.bias_term else factor * 0
        return factor, shift

    def backward(self, diffs, bottoms, tops, wanted):
        dy, scale = diffs[0], self._operand(bottoms)
        dx = dy * self._broadcast(scale, dy) if wanted[0] else None
        if len(bottoms) == 1:
            return [dx]
        return [dx, self._reduce(dy * bottoms[0], scale) if wanted[1] else None]

    def backward_params(self, diffs, bottoms, tops):
        dy = diffs[0]
        if len(bottoms) == 1 and self.param_propagate_down[0]:
            self.blobs[0].accumulate_diff(self._reduce(dy * bottoms[0], self.blobs[0].tensor))
        if self.options.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].accumulate_diff(self._reduce(dy, self.blobs[-1].tensor))


@register
class Bias(_PerChannel):
    """y = x + bias.

    bottom 0, top: (N, C, ...); bottom 1 (optional): the summand, else it is learned, of the
    shape of `num_axes` axes from `axis` (default (C,)). Options: bias_param.
    """

    param_name = "bias_param"
    reads_bottom = False

    def setup(self, *shapes):
        self._setup_operand(shapes)

    def forward(self, *bottoms):
        bias = bottoms[1] if len(bottoms) > 1 else self.blobs[0].tensor
        self.operand = bias
        return bottoms[0] + self._broadcast(bias, bottoms[0])

    def per_channel(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self._is_per_channel:
            return None
        shift = self.blobs[0].tensor.double()
        return torch.ones_like(shift), shift

    def backward(self, diffs, bottoms, tops, wanted):
        dy = diffs[0]
        return [dy if wanted[0] else None] + [
            self._reduce(dy, self.operand) if want else None for want in wanted[1:]
        ]

    def backward_params(self, diffs, bottoms, tops):
        if self.blobs and self.param_propagate_down[0]:
            self.blobs[0].accumulate_diff(self._reduce(diffs[0], self.operand))
