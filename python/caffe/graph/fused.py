"""The layer that a fused group runs as: BatchNorm, Scale, a sum with another blob, ReLU, Split."""

import torch

from .. import device, kernels
from ..catalogue.utility import add_all
from ..layer import TensorLayer


class FusedNormalization(TensorLayer):
    """y = max(scale (x - mean) / sqrt(var + eps) + bias + other, 0).

    bottom 0, tops: (N, C, ...); bottom 1 and `other` exist only with an Eltwise, the max only with
    a ReLU, several tops (all y) only with a Split. The parameters are those of the layers that it
    replaces.
    """

    def __init__(self, nodes):
        super().__init__(nodes[0].param, nodes[0].layer.phase)
        self.normalization, self.scale = nodes[0].layer, nodes[1].layer
        types = [node.layer.type for node in nodes]
        self.adds, self.rectifies, self.splits = (
            kind in types for kind in ("Eltwise", "ReLU", "Split")
        )
        self.tops = len(nodes[-1].tops)
        self.reads_top = self.rectifies
        self.blobs = self.scale.blobs

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
        y, self.saved = self.kernels.normalize(
            x, other, scale, bias, norm.options.eps, norm.mean, norm.variance, self.rectifies
        )
        return y

    def backward(self, diffs, bottoms, tops, wanted):
        return self.backward_several([(diffs, wanted, False)], bottoms, tops)[0]

    def backward_params(self, diffs, bottoms, tops):
        self.backward_several([(diffs, [False, False], True)], bottoms, tops)

    def backward_both(self, diffs, bottoms, tops, wanted):
        return self.backward_several([(diffs, wanted, True)], bottoms, tops)[0]

    def backward_several(self, flows, bottoms, tops):
        x = bottoms[0]
        arrived = [[diff.to(x.dtype) for diff in diffs if diff is not None] for diffs, *_ in flows]
        want_data = [wanted[0] for _, wanted, _ in flows]
        gradients = self._gradients_in_torch if self.saved is None else self._gradients_in_kernels
        found = gradients(arrived, want_data, x, tops[0])
        for (_, dscale, dbias, _), (*_, counts) in zip(found, flows, strict=True):
            if counts:
                self._accumulate(dscale, dbias)
        return [
            [dx, below if wanted[1] else None] if self.adds else [dx]
            for (dx, _, _, below), (_, wanted, _) in zip(found, flows, strict=True)
        ]

    def _gradients_in_torch(self, arrived, want_data, x, top):
        """[(dx, dscale, dbias, the diff below the ReLU)], one for each flow."""
        found = []
        for diffs, wanted in zip(arrived, want_data, strict=True):
            below = add_all(diffs)
            if self.rectifies:
                below = torch.ops.aten.threshold_backward(below, top, 0)
            found.append(
                (
                    *self.normalization.gradients(
                        below, x, self.blobs[0].tensor, (wanted, *self._wanted_params())
                    ),
                    below,
                )
            )
        return found

    def _gradients_in_kernels(self, arrived, want_data, x, top):
        """The same, two flows in one pass over x."""
        norm, flows = self.normalization, []
        for (dy, *others), wanted in zip(arrived, want_data, strict=True):
            second = device.layout(add_all(others)) if others else None
            flows.append((device.layout(dy), second, wanted))  # a Concat passes down pieces
        found = []
        for first in range(0, len(flows), 2):
            found += self.kernels.normalize_backward(
                flows[first : first + 2],
                x,
                self.blobs[0].tensor,
                norm.mean,
                self.saved,
                own_statistics=not norm.uses_stored_statistics,
                top=top if self.rectifies and self.adds else None,
                rectified=self.rectifies and not self.adds,
            )
        return [
            (dx, dscale, dbias, dy if below is None else below)
            for (dx, dscale, dbias, below), (dy, *_) in zip(found, flows, strict=True)
        ]

    def _wanted_params(self):
        wanted = self.param_propagate_down
        return wanted[0], len(wanted) > 1 and wanted[1]

    def _accumulate(self, *gradients):
        for blob, gradient, wanted in zip(
            self.blobs, gradients, self._wanted_params(), strict=False
        ):
            if wanted:
                blob.accumulate_diff(gradient)

    def spread(self, nodes, x):
        """Restore what the layers would have kept if they had run one by one."""
        norm, (scale, bias) = self.normalization, self._params()
        if self.saved is not None:
            norm.inverse_std = self.saved[0]
        shape = (1, -1) + (1,) * (x.dim() - 2)
        normalized = (x - norm.mean.view(shape).to(x.dtype)) * norm.inverse_std.view(shape).to(
            x.dtype
        )
        nodes[0].inputs = (x,) if nodes[0].in_place else None
        nodes[1].inputs = (normalized,)
        if self.adds:
            scaled = normalized * scale.view(shape).to(x.dtype)
            nodes[1].tops[0].tensor = (
                scaled if bias is None else (scaled + bias.view(shape).to(x.dtype))
            )
