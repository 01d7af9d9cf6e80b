"""Accuracy: how many labels are among the best scores."""

import torch

from ..layer import TensorLayer, register
from .labels import Labels, ReadsLabels
from .loss import at_least_single


@register
class Accuracy(ReadsLabels, TensorLayer):
    """The share of labels whose class scores among the top_k.

    bottom 0: scores, (N, C, ...); bottom 1: labels, (N, ...). top 0: (); top 1 (optional): the
    share per class, (C,). Another class with the same score counts as better. Labels equal to
    ignore_label do not count; without labels the share is 0. Options: accuracy_param.
    """

    bottom_count = (2, 2)
    top_count = (1, 2)
    differentiable = False
    param_name = "accuracy_param"

    def setup(self, *shapes):
        options = self.options
        self.labels = Labels(
            self, options.ignore_label if options.HasField("ignore_label") else None
        )

    def reshape(self, *shapes):
        self.axis = self.canonical_axis(self.options.axis, shapes[0])
        self.labels.check_count(shapes, self.axis)
        classes = shapes[0][self.axis]
        if not 1 <= self.options.top_k <= classes:
            raise self.error(
                f"top_k must be 1 to {classes}, the number of classes; found {self.options.top_k}"
            )
        return [(), (classes,)][: len(self.layer_param.top)]

    def forward(self, scores, labels):
        index, keep = self.labels.read(labels, scores, self.axis)
        rivals = (scores >= scores.gather(self.axis, index)).sum(self.axis, keepdim=True) - 1
        dtype = at_least_single(scores.dtype)
        right = (rivals < self.options.top_k).to(dtype)
        counted = torch.ones_like(right) if keep is None else keep.to(dtype)
        right = right * counted
        share = right.sum() / counted.sum().clamp(min=1)
        if len(self.layer_param.top) == 1:
            return share
        sums = right.new_zeros(2, scores.shape[self.axis])
        sums.scatter_add_(
            1, index.flatten().expand(2, -1), torch.stack([right.flatten(), counted.flatten()])
        )
        return share, sums[0] / sums[1].clamp(min=1)
