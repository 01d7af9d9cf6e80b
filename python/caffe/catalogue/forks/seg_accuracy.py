"""SegAccuracy: how well pixels are classified (DeepLab, PSPNet)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import device
from ...layer import Shape, TensorLayer, register
from ..labels import Labels, ReadsLabels


@register
class SegAccuracy(ReadsLabels, TensorLayer):
    """Three measures of a segmentation: pixel accuracy, mean recall and mean Jaccard index.

    bottom 0: scores, (N, C, H, W), or of one channel, which is label 1 above 0.5 and else 0;
    bottom 1: labels, (N, 1, H, W); top: (1, 1, 1, 3). Recall is
    averaged over the classes that occur; the Jaccard index over all C, as 1 for a class that
    neither occurs nor is found. Pixels with one of ignore_label do not count. With reset: false
    the pixels of all batches so far count, not this one's alone. Options: seg_accuracy_param; its
    metric changes nothing. DeepLab, PSPNet.
    """

    bottom_count = (2, 2)
    differentiable = False
    replays = False  # keeps the counts
    param_name = "seg_accuracy_param"

    def setup(self, *shapes: Shape) -> None:
        self.labels = Labels(self)
        self.counts = None  # (actual, found)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        if len(shapes[0]) < 2:
            raise self.shape_error(f"needs scores (N, C, H, W); found {tuple(shapes[0])}")
        self.labels.check_count(shapes, 1)
        return [(1, 1, 1, 3)]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        if scores.shape[1] == 1:
            scores = torch.cat([torch.full_like(scores, 0.5), scores], 1)
        classes, actual = scores.shape[1], labels.long()
        ignored = torch.tensor(list(self.options.ignore_label), device=labels.device)
        keep = ~torch.isin(actual, ignored).flatten()
        index, _ = self.labels.read(actual.flatten().where(keep, 0), self._rows(scores), 1)
        pairs = index[:, 0] * classes + self._rows(scores).argmax(1)
        counts = torch.bincount(pairs[keep], minlength=classes**2).view(classes, classes)
        if self.counts is not None and not self.options.reset:
            counts = counts + self.counts
        self.counts = counts
        return self._measures(counts.to(device.master_dtype())).view(1, 1, 1, 3)

    @staticmethod
    def _rows(scores: Tensor) -> Tensor:
        return scores.movedim(1, -1).reshape(-1, scores.shape[1])

    @staticmethod
    def _measures(counts: Tensor) -> Tensor:
        right, actual, found = counts.diagonal(), counts.sum(1), counts.sum(0)
        occurs, union = (actual > 0).sum(), actual + found - right
        return torch.stack(
            [
                right.sum() / counts.sum().clamp(min=1),
                (right / actual.clamp(min=1)).sum() / occurs.clamp(min=1),
                torch.where(union > 0, right / union.clamp(min=1), 1).mean(),
            ]
        )
