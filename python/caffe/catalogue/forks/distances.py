"""Losses of distances: SmoothL1Loss, SmoothL1LossOHEM, L1Loss, CenterLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...layer import Diffs, Shape, Tensors, register
from ..labels import Labels, ReadsLabels
from ..loss import Loss, NormalizedLoss, at_least_single


def smooth_l1(x: Tensor, sigma: float = 1) -> Tensor:
    """(sigma x)^2 / 2 where |x| < 1 / sigma^2, else |x| - 1 / (2 sigma^2)."""
    size, edge = x.abs(), 1 / sigma**2
    return torch.where(size < edge, x.square() / (2 * edge), size - edge / 2)


def smooth_l1_slope(x: Tensor, sigma: float = 1) -> Tensor:
    """The derivative of `smooth_l1`."""
    return (x * sigma**2).clamp(-1, 1)


class _Difference(Loss):
    """A loss of w (a - b), to which weights w may be given as bottom 2."""

    bottom_count = (2, 3)
    sigma = 1.0

    def reshape(self, *shapes: Shape) -> list[Shape]:
        for index, shape in enumerate(shapes[1:], 1):
            if math.prod(shape) != math.prod(shapes[0]):
                raise self.shape_error(
                    f"all bottoms need equally many values; bottom 0 has shape "
                    f"{tuple(shapes[0])}, bottom {index} {tuple(shape)}"
                )
        return super().reshape(*shapes)

    def allows_backward(self, index: int) -> bool:
        """Weights get zeros: nets of forks let backward ask for them, and ignore them."""
        return True

    def terms(self, a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        """The loss of each value, like a."""
        self.inside = weights[0].reshape(a.shape) if weights else None
        self.difference = a.to(at_least_single(a.dtype)) - b.reshape(a.shape)
        if weights:
            self.difference = self.difference * self.inside
        return smooth_l1(self.difference, self.sigma)

    def slopes(self) -> Tensor:
        """The derivative of each of the `terms` by a."""
        found = smooth_l1_slope(self.difference, self.sigma)
        return found if self.inside is None else found * self.inside

    def both_diffs(self, da: Tensor, bottoms: Tensors, wanted: Sequence[bool]) -> Diffs:
        """Those of a, and of b, from which it is subtracted."""
        given = [
            (sign * da).reshape(x.shape).to(x.dtype) if want else None
            for sign, x, want in zip((1, -1), bottoms, wanted, strict=False)
        ]
        return given + [
            torch.zeros_like(x) if want else None
            for x, want in zip(bottoms[2:], wanted[2:], strict=False)
        ]


@register
class SmoothL1Loss(_Difference):
    """A distance that is square near 0 and linear far from it, so that outliers pull less.

    bottom 0, 1: a and b, (N, ...) with equally many values, both get a gradient; bottom 2
    (optional): weights w; bottom 3 (optional): weights v, whose diffs are 0; top: sum of
    v s(w (a - b)) / N, where s is `smooth_l1` with smooth_l1_loss_param's sigma. Girshick, 2015;
    py-faster-rcnn for bottom 3.

    NOTE: of three bottoms the forks' backward leaves w out, which makes a difference only where it
    is neither 0 nor 1.
    """

    bottom_count = (2, 4)
    param_name = "smooth_l1_loss_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        self.sigma = self.options.sigma
        if self.sigma <= 0:
            raise self.error(f"sigma must be positive; found {self.sigma}")

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> Tensor:
        terms = self.terms(a, b, *weights[:1])
        self.outside = weights[1].reshape(a.shape) if len(weights) > 1 else None
        return (terms if self.outside is None else terms * self.outside).sum() / len(a)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        slopes = self.slopes() * (diffs[0] / len(bottoms[0]))
        if self.outside is not None:
            slopes = slopes * self.outside
        return self.both_diffs(slopes, bottoms, wanted)


@register
class SmoothL1LossOHEM(NormalizedLoss, _Difference):
    """SmoothL1Loss that also hands out the loss of each region, which hard examples are chosen by.

    bottom 0, 1: a and b, (N, C, ...), both get a gradient; bottom 2 (optional): weights w. top 0:
    the sum of s(w (a - b)), divided as loss_param says (VALID and FULL: by N times the sizes after
    C); top 1 (optional): the sums over C, (N, 1, ...), whose diff is ignored. R-FCN.
    """

    top_count = (1, 2)
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        self.read_normalization()

    def reshape(self, *shapes: Shape) -> list[Shape]:
        super().reshape(*shapes)
        self.shape = tuple(shapes[0])
        each = (*self.shape[:1], *(1,) * len(self.shape[1:2]), *self.shape[2:])
        return [(), each][: len(self.layer_param.top)]

    def forward(self, a: Tensor, b: Tensor, *weights: Tensor) -> Tensor | Tensors:
        terms = self.terms(a, b, *weights)
        self.divisor = self.normalizer(len(a), math.prod(self.shape[2:]), None)
        loss = terms.sum() / self.divisor
        if len(self.layer_param.top) == 1:
            return loss
        return loss, (terms.sum(1, keepdim=True) if terms.dim() > 1 else terms)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if diffs[0] is None:
            return [None] * len(bottoms)
        return self.both_diffs(self.slopes() * (diffs[0] / self.divisor), bottoms, wanted)


@register
class L1Loss(_Difference):
    """The sum of distances between two maps; places where one of them is NaN do not count.

    bottom 0, 1 (optional): a and b, (N, C, H, W), both get a gradient; top: (). The sum of |d| with
    d = a - b (or a), or with l2_per_location of sqrt(sum of d^2 over C + epsilon), a mean instead
    of the sum with l2_prescale_by_channels; distances below `plateau` count as 0. It is divided by
    N, or with normalize_by_num_entries by the number of values that are not NaN / C. Options:
    l1_loss_param. FlowNet2; with the defaults NVCaffe's.
    """

    bottom_count = (1, 2)
    param_name = "l1_loss_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        if self.options.power != 0.5:
            raise self.error(f"power must be 0.5, the square root; found {self.options.power}")

    def reshape(self, *shapes: Shape) -> list[Shape]:
        if len(shapes[0]) < 2:
            raise self.shape_error(f"needs a channel axis; bottom 0 has shape {tuple(shapes[0])}")
        return super().reshape(*shapes) if len(shapes) > 1 else [()]

    def forward(self, a: Tensor, *b: Tensor) -> Tensor:
        d = a.to(at_least_single(a.dtype))
        d = d - b[0].reshape(a.shape) if b else d
        known = ~d.isnan()
        self.d = d = d.where(known, 0)
        self.divisor = len(a)
        if self.options.normalize_by_num_entries:
            self.divisor = (known.sum() / d.shape[1]).clamp(min=1)
        plateau = self.options.plateau
        if not self.options.l2_per_location:
            self.root, self.counts = None, known & (d.abs() >= plateau)
            return d.abs().where(self.counts, 0).sum() / self.divisor
        share = 1 / d.shape[1] if self.options.l2_prescale_by_channels else 1
        squares = d.square().sum(1, keepdim=True) * share  # (N, 1, H, W)
        self.counts = squares >= plateau**2
        self.root = (squares.where(self.counts, 0) + self.options.epsilon).sqrt()
        return self.root.sum() / self.divisor

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        if self.root is None:
            slopes = self.d.sign()
        else:
            share = 1 / self.d.shape[1] if self.options.l2_prescale_by_channels else 1
            slopes = self.d * share / self.root
        slopes = slopes.where(self.counts, 0) * (diffs[0] / self.divisor)
        return self.both_diffs(slopes, bottoms, wanted)


@register
class CenterLoss(ReadsLabels, Loss):
    """Pulls the features of a class to its center, which follows their mean.

    bottom 0: features x, (N, ...), seen as (N, K) from `axis` on; bottom 1: labels, (N,); top: the
    sum of |x - c[label]|^2 / (2 N). One blob: the centers c, (num_output, K). Options:
    center_loss_param. Wen et al., 2016 (caffe-face).

    NOTE: the diff of a center is no derivative: as in the paper it is the sum of c - x over the n
    features of its class, divided by n + 1, whatever the layer's loss_weight.
    """

    param_name = "center_loss_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        self.labels = Labels(self)
        if self.options.num_output < 1:
            raise self.error("num_output, the number of classes, must be given")
        axis = self.canonical_axis(self.options.axis, shapes[0])
        if math.prod(shapes[0][:axis]) != shapes[0][0]:
            raise self.error(f"axis {axis} must leave one vector for each of N: give axis: 1")
        shape = (self.options.num_output, math.prod(shapes[0][axis:]))
        self.add_param(shape, self.options.center_filler)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        classes, values = self.blobs[0].shape
        if math.prod(shapes[0][1:]) != values:
            raise self.shape_error(
                f"the centers have {values} values; bottom 0 has shape {tuple(shapes[0])}"
            )
        self.labels.check_count([(shapes[0][0], classes), shapes[1]], 1)
        return super().reshape(*shapes)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        centers = self.blobs[0].tensor
        rows = x.reshape(len(x), -1).to(centers.dtype)
        scores = centers.new_empty(len(x), len(centers), device="meta")  # labels need its shape
        index, _ = self.labels.read(labels, scores, 1)
        self.index = index[:, 0]
        self.difference = rows - centers[self.index]  # (N, K)
        return self.difference.square().sum() / (2 * len(x))

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        x = bottoms[0]
        dx = self.difference * (diffs[0] / len(x))
        return [dx.reshape(x.shape).to(x.dtype) if wanted[0] else None, None]

    def backward_params(self, diffs: Diffs, bottoms: Tensors, tops: Tensors) -> None:
        if not self.param_propagate_down[0]:
            return
        sums = torch.zeros_like(self.blobs[0].tensor)
        sums.index_add_(0, self.index, self.difference)
        counts = sums.new_zeros(len(sums), 1)
        counts.index_add_(0, self.index, counts.new_ones(len(self.index), 1))
        weight = self.layer_param.loss_weight[0] if self.layer_param.loss_weight else 1
        self.blobs[0].accumulate_diff(-sums / (counts + 1) * (diffs[0] / weight))
