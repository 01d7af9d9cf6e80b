"""Softmax."""

import torch

from ..kernels import steps
from ..kernels.layout import is_rows
from ..layer import TensorLayer, register


@register
class Softmax(TensorLayer):
    """y = exp(x) / sum of exp(x) along an axis (default 1: over the channels).

    bottom, top: any shape, the same. Options: softmax_param. Caffe's SoftmaxLayer.
    """

    param_name = "softmax_param"
    reads_bottom = False
    reads_top = True

    def reshape(self, *shapes):
        self.axis = self.canonical_axis(self.options.axis, shapes[0])
        self._own = None
        return [shapes[0]]

    def forward(self, x):
        return torch.softmax(x, self.axis)

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        if self.axis != 1 or x.dim() not in (2, 4) or not (steps.fits(x) and is_rows(x)):
            self._own = None
            return self.forward(x)
        if self._own is None or self._own.dtype != x.dtype:
            self._own = steps.softmax(x.shape, x.dtype)
        return self._own(x)

    def own_call(self) -> steps.Call | None:
        """See TensorLayer."""
        return self._own

    def backward(self, diffs, bottoms, tops, wanted):
        y = tops[0]
        return [torch.ops.aten._softmax_backward_data(diffs[0].to(y.dtype), y, self.axis, y.dtype)]
