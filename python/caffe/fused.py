"""The layer that a fused group runs as: BatchNorm, Scale, a sum with another blob, ReLU, Split."""

import torch

from . import device, kernels
from .catalogue.utility import add_all
from .layer import TensorLayer


class FusedNormalization(TensorLayer):
    """y = max(scale (x - mean) / sqrt(var + eps) + bias + other, 0).

    bottom 0, tops: (N, C, ...); bottom 1 and `other` only with an Eltwise, the max only with a
    ReLU, several tops, all y, only with a Split. Its parameters are those of the layers it is made
    of.
    """

    def __init__(self, nodes):
        self.normalization, self.scale = nodes[0].layer, nodes[1].layer
        types = [node.layer.type for node in nodes]
        self.adds, self.rectifies, self.splits = (
            kind in types for kind in ("Eltwise", "ReLU", "Split"))
        self.tops = len(nodes[-1].tops)
        self.reads_top = self.rectifies
        self.name = self.normalization.name
        self.blobs = self.scale.blobs
        self.options = None

    @property
    def param_propagate_down(self):
        return self.scale.param_propagate_down

    def reshape(self, *shapes):
        return self.scale.reshape(*self.normalization.reshape(shapes[0])) * self.tops

    def _params(self):
        return self.blobs[0].tensor, self.blobs[1].tensor if len(self.blobs) > 1 else None

    def forward(self, x, other=None):
        self.kernels = kernels.taking(x) if other is None else kernels.taking(x, other)
        y = (self._forward_in_torch if self.kernels is None else self._forward_in_kernels)(x, other)
        return (y,) * self.tops

    def _forward_in_torch(self, x, other):
        self.saved = None
        y = self.normalization.normalize(x, *self._params())
        y = y if other is None else y.add_(other)
        return y.relu_() if self.rectifies else y

    def _forward_in_kernels(self, x, other):
        norm, (scale, bias) = self.normalization, self._params()
        norm.mean, norm.variance = norm.statistics(x, self.kernels)
        y, self.saved = self.kernels.normalize(x, other, scale, bias, norm.options.eps, norm.mean,
                                               norm.variance, self.rectifies)
        return y

    def backward(self, diffs, bottoms, tops, wanted):
        dx, _, _, below = self._gradients(diffs, bottoms, tops, (wanted[0], False, False))
        return [dx, below if wanted[1] else None] if self.adds else [dx]

    def backward_params(self, diffs, bottoms, tops):
        self._accumulate(self._gradients(diffs, bottoms, tops, (False, *self._wanted_params())))

    def backward_both(self, diffs, bottoms, tops, wanted):
        found = self._gradients(diffs, bottoms, tops, (wanted[0], *self._wanted_params()))
        self._accumulate(found)
        return [found[0], found[3] if wanted[1] else None] if self.adds else [found[0]]

    def _wanted_params(self):
        wanted = self.param_propagate_down
        return wanted[0], len(wanted) > 1 and wanted[1]

    def _gradients(self, diffs, bottoms, tops, mask):
        """The diffs of x, scale and bias that `mask` asks for, and the diff below the ReLU."""
        x, norm, scale = bottoms[0], self.normalization, self.blobs[0].tensor
        dy, *others = [diff.to(x.dtype) for diff in diffs if diff is not None]
        if self.saved is None:
            dy = add_all([dy, *others])
            below = torch.ops.aten.threshold_backward(dy, tops[0], 0) if self.rectifies else dy
            return (*norm.gradients(below, x, scale, mask), below)
        dy = device.layout(dy)  # a Concat hands down pieces of its diff
        second = device.layout(add_all(others)) if others else None
        *found, below = self.kernels.normalize_backward(
            dy, second, x, scale, norm.mean, self.saved,
            own_statistics=not norm.uses_stored_statistics,
            top=tops[0] if self.rectifies and self.adds else None,
            rectified=self.rectifies and not self.adds, want_data=mask[0])
        return (*found, dy if below is None else below)

    def _accumulate(self, found):
        for blob, gradient, wanted in zip(self.blobs, found[1:3], self._wanted_params(),
                                          strict=False):
            if wanted:
                blob.accumulate_diff(gradient)

    def spread(self, nodes, x):
        """Restore what the layers would have kept, had they run one by one."""
        norm, (scale, bias) = self.normalization, self._params()
        if self.saved is not None:
            norm.inverse_std = self.saved[0]
        shape = (1, -1) + (1,) * (x.dim() - 2)
        normalized = ((x - norm.mean.view(shape).to(x.dtype))
                      * norm.inverse_std.view(shape).to(x.dtype))
        nodes[0].inputs = (x,) if nodes[0].in_place else None
        nodes[1].inputs = (normalized,)
        if self.adds:
            scaled = normalized * scale.view(shape).to(x.dtype)
            nodes[1].tops[0].tensor = scaled if bias is None else (
                scaled + bias.view(shape).to(x.dtype))
