"""SoftmaxWithLoss: the loss of classification."""

import math

import torch

from ..layer import register
from .labels import Labels
from .loss import NormalizedLoss, at_least_single

_LARGEST = -math.log(torch.finfo(torch.float32).tiny)  # of one term: Caffe takes log(max(p, tiny))


@register
class SoftmaxWithLoss(NormalizedLoss):
    """Mean of -log p[label], p being the softmax of the scores along an axis.

    bottom 0: scores, (N, C, ...); bottom 1: as many labels 0 to C - 1 as there are vectors of
    scores, (N, ...). top 0: (); top 1 (optional): p, (N, C, ...). Terms with loss_param's
    ignore_label do not count; the sum is divided as its normalization says. Options: loss_param,
    softmax_param. Caffe's SoftmaxWithLossLayer.
    """

    top_count = (1, 2)
    param_name = "softmax_param"
    reads_bottom = False

    def setup(self, *shapes):
        self.read_normalization()
        self.labels = Labels(self, self.ignore_label)

    def reshape(self, *shapes):
        self.axis = self.canonical_axis(self.options.axis, shapes[0])
        self.labels.check_count(shapes, self.axis)
        super().reshape(*shapes)
        return [(), shapes[0]][:max(1, len(self.layer_param.top))]

    def forward(self, scores, labels):
        log_p = torch.log_softmax(scores, self.axis, dtype=at_least_single(scores.dtype))
        self.log_p = log_p
        self.index, self.keep = self.labels.read(labels, scores, self.axis)
        terms = log_p.gather(self.axis, self.index).neg().clamp(max=_LARGEST)
        if self.keep is not None:
            terms = terms * self.keep
        outer = math.prod(scores.shape[:self.axis])
        self.divisor = self.normalizer(outer, math.prod(scores.shape[self.axis + 1:]), self.keep)
        loss = terms.sum() / self.divisor
        return (loss, log_p.exp().to(scores.dtype)) if len(self.layer_param.top) > 1 else loss

    def backward(self, diffs, bottoms, tops, wanted):
        """(p - [label]) / divisor; a diff of the probabilities themselves is ignored."""
        if diffs[0] is None:
            return [None, None]
        weight = diffs[0] / self.divisor
        if self.keep is not None:
            weight = weight * self.keep
        dx = self.log_p.exp()
        dx.scatter_add_(self.axis, self.index, dx.new_full((), -1).expand(self.index.shape))
        return [dx.mul_(weight).to(bottoms[0].dtype), None]
