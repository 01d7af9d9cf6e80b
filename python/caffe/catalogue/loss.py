"""Loss layers. The diff of a loss top holds its loss_weight; backward multiplies by it."""

import torch

from ..layer import TensorLayer, register
from ..proto import caffe_pb2

_MODE = caffe_pb2.LossParameter


class Loss(TensorLayer):
    """A scalar top with loss_weight 1 unless told."""

    is_loss = True
    auto_tops = True
    bottom_count = (2, 2)

    def reshape(self, *shapes):
        if shapes[0][:1] != shapes[1][:1]:
            raise self.shape_error(f"the bottoms need one batch size; found shapes "
                                   f"{tuple(shapes[0])} and {tuple(shapes[1])}")
        return [()]

    def allows_backward(self, index):
        return index != 1


class NormalizedLoss(Loss):
    """A loss divided by a count of its terms, as loss_param says."""

    def read_normalization(self, default=_MODE.VALID):
        options = self.layer_param.loss_param
        self.ignore_label = options.ignore_label if options.HasField("ignore_label") else None
        if not options.HasField("normalization") and options.HasField("normalize"):
            self.mode = _MODE.VALID if options.normalize else _MODE.BATCH_SIZE
        elif options.HasField("normalization"):
            self.mode = options.normalization
        else:
            self.mode = default

    def normalizer(self, outer, inner, keep):
        """What the sum of losses is divided by, at least 1; `keep` masks the terms that count."""
        if self.mode == _MODE.VALID and keep is not None:
            return keep.sum().clamp(min=1)
        return max(1, {_MODE.FULL: outer * inner, _MODE.VALID: outer * inner,
                       _MODE.BATCH_SIZE: outer, _MODE.NONE: 1}[self.mode])


def at_least_single(dtype):
    """The precision that losses are computed in: never below fp32."""
    return torch.promote_types(dtype, torch.float32)


@register
class EuclideanLoss(Loss):
    """loss = sum of (a - b)^2 / (2 N).

    bottom 0, 1: a and b, any equal shapes (N, ...), and both get a gradient; top: ().
    """

    def reshape(self, *shapes):
        if tuple(shapes[0][1:]) != tuple(shapes[1][1:]) and (
                torch.Size(shapes[0][1:]).numel() != torch.Size(shapes[1][1:]).numel()):
            raise self.shape_error(f"the bottoms need equally many values; found shapes "
                                   f"{tuple(shapes[0])} and {tuple(shapes[1])}")
        return super().reshape(*shapes)

    def allows_backward(self, index):
        return True

    def forward(self, a, b):
        difference = a.to(at_least_single(a.dtype)) - b.reshape(a.shape)
        return difference.square().sum() / (2 * len(a))

    def backward(self, diffs, bottoms, tops, wanted):
        a, b = bottoms
        diff = (a.to(diffs[0].dtype) - b.reshape(a.shape)) * (diffs[0] / len(a))
        return [diff.to(a.dtype) if wanted[0] else None,
                (-diff).reshape(b.shape).to(b.dtype) if wanted[1] else None]
