"""Activation layers: one value in, one value out."""

import torch

from ..layer import TensorLayer, register


class _Activation(TensorLayer):
    """bottom and top: any shape, the same. May run in place."""


@register
class ReLU(_Activation):
    """y = max(x, 0) + negative_slope min(x, 0).

    bottom, top: any shape. Options: relu_param. Backward reads the top, so it runs in place.
    """

    param_name = "relu_param"
    reads_bottom = False
    reads_top = True

    def forward(self, x):
        slope = self.options.negative_slope
        if slope:
            return torch.nn.functional.leaky_relu(x, slope)
        return x.relu_() if self.overwrite else x.relu()

    def backward(self, diffs, bottoms, tops, wanted):
        slope = self.options.negative_slope
        if slope < 0:  # the sign of the top no longer tells that of the bottom
            return [torch.where(bottoms[0] > 0, diffs[0], diffs[0] * slope)]
        if slope:
            return [torch.ops.aten.leaky_relu_backward(diffs[0], tops[0], slope, True)]
        return [torch.ops.aten.threshold_backward(diffs[0], tops[0], 0)]
