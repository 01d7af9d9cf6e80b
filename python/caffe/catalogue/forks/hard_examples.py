"""Online hard examples of R-FCN: SoftmaxWithLossOHEM, BoxAnnotatorOHEM."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from ...layer import Shape, TensorLayer, Tensors, register
from ..class_loss import SoftmaxWithLoss


@register
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss that also hands out the loss of each vector of scores.

    bottom 0: scores, (N, C, ...); bottom 1: labels, (N, ...). top 0: (); top 1 (optional): p, like
    the scores; top 2 (optional): the terms of the loss, like the labels, 0 for those with
    ignore_label. Diffs of tops 1 and 2 are ignored. Options: loss_param, softmax_param. R-FCN.
    """

    top_count = (1, 3)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.label_shape = tuple(shapes[1])
        return [*super().reshape(*shapes), self.label_shape][: len(self.layer_param.top)]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | Tensors:
        tops = super().forward(scores, labels)
        if len(self.layer_param.top) < 3:
            return tops
        terms = self.terms()
        return *tops, (terms if self.keep is None else terms.where(self.keep, 0)).reshape(
            self.label_shape
        )


@register
class BoxAnnotatorOHEM(TensorLayer):
    """Keeps the labels of the regions with the largest losses; the others are to be ignored.

    bottom 0: regions (image, x1, y1, x2, y2), (R, 5, ...); bottom 1: their losses; bottom 2: their
    labels; bottom 3: weights of their boxes, (R, C, ...). top 0: the labels, like bottom 2, with
    ignore_label for all but the roi_per_img hardest regions of each image; top 1: the weights, 0
    for those. Options: box_annotator_ohem_param. R-FCN; Shrivastava et al., 2016.
    """

    bottom_count = (4, 4)
    top_count = (2, 2)
    param_name = "box_annotator_ohem_param"
    differentiable = False
    replays = False

    def setup(self, *shapes: Shape) -> None:
        if self.options.roi_per_img < 1:
            raise self.error("roi_per_img, how many regions an image keeps, must be given")

    def reshape(self, *shapes: Shape) -> list[Shape]:
        rois, losses, labels, weights = map(tuple, shapes)
        each = [shape[:1] + shape[2:] for shape in (rois, weights)]
        counts = [int(np.prod(shape)) for shape in (each[0], losses, labels, each[1])]
        if rois[1:2] != (5,) or len(set(counts)) > 1:
            raise self.shape_error(
                "needs regions (R, 5, ...), a loss and a label for each, and weights (R, C, ...); "
                f"found {rois}, {losses}, {labels} and {weights}"
            )
        return [labels, weights]

    def forward(self, rois: Tensor, losses: Tensor, labels: Tensor, weights: Tensor) -> Tensors:
        kept = self._hardest(rois[:, 0].flatten().tolist(), losses.flatten().tolist())
        kept = torch.tensor(kept, device=labels.device).reshape(rois[:, :1].shape)
        ignored = torch.full_like(labels, self.options.ignore_label)
        return [
            torch.where(kept.reshape(labels.shape), labels, ignored),
            weights * kept.to(weights.dtype),
        ]

    def _hardest(self, images: list[float], losses: list[float]) -> list[bool]:
        kept, counts = [False] * len(losses), Counter()
        for index in np.argsort(-np.array(losses), kind="stable"):
            image = int(images[index])
            counts[image] += 1
            kept[index] = counts[image] <= self.options.roi_per_img
        return kept
