"""Softmax."""

import torch

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
        return [shapes[0]]

    def forward(self, x):
        return torch.softmax(x, self.axis)

    def backward(self, diffs, bottoms, tops, wanted):
        y = tops[0]
        return [torch.ops.aten._softmax_backward_data(diffs[0].to(y.dtype), y, self.axis, y.dtype)]
