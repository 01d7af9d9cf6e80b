"""Loss layers. The diff of a loss top holds its loss_weight; backward multiplies by it."""

import math

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
            raise self.shape_error(
                f"the bottoms need one batch size; found shapes "
                f"{tuple(shapes[0])} and {tuple(shapes[1])}"
            )
        return [()]

    def allows_backward(self, index):
        return index != 1

    def check_equal_counts(self, shapes):
        if math.prod(shapes[0]) != math.prod(shapes[1]):
            raise self.shape_error(
                f"bottoms 0 and 1 need equally many values; found shapes "
                f"{tuple(shapes[0])} and {tuple(shapes[1])}"
            )


class NormalizedLoss(Loss):
    """A loss divided by a count of its terms, as loss_param says.

    PRE_FIXED, of R-FCN's fork, divides by pre_fixed_normalizer.
    """

    fork_fields = ("pre_fixed_normalizer",)

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
        if self.mode == _MODE.PRE_FIXED:
            return max(1, self.layer_param.loss_param.pre_fixed_normalizer)
        if self.mode == _MODE.VALID and keep is not None:
            return keep.sum().clamp(min=1)
        return max(
            1,
            {
                _MODE.FULL: outer * inner,
                _MODE.VALID: outer * inner,
                _MODE.BATCH_SIZE: outer,
                _MODE.NONE: 1,
            }[self.mode],
        )


def at_least_single(dtype):
    """The precision that losses are computed in: never below fp32."""
    return torch.promote_types(dtype, torch.float32)


@register
class EuclideanLoss(Loss):
    """loss = sum of (a - b)^2 / (2 N).

    bottom 0, 1: a and b, (N, ...) with equally many values; both get a gradient. top: ().
    Caffe's EuclideanLossLayer.
    """

    reads_bottom = False

    def reshape(self, *shapes):
        self.check_equal_counts(shapes)
        return super().reshape(*shapes)

    def allows_backward(self, index):
        return True

    def forward(self, a, b):
        self.difference = a.to(at_least_single(a.dtype)) - b.reshape(a.shape)
        return self.difference.square().sum() / (2 * len(a))

    def backward(self, diffs, bottoms, tops, wanted):
        a, b = bottoms
        diff = self.difference * (diffs[0] / len(a))
        return [
            diff.to(a.dtype) if wanted[0] else None,
            (-diff).reshape(b.shape).to(b.dtype) if wanted[1] else None,
        ]


@register
class SigmoidCrossEntropyLoss(NormalizedLoss):
    """-(t log p + (1 - t) log(1 - p)) with p = sigmoid(x), summed over all values.

    bottom 0: x, (N, ...); bottom 1: targets t in [0, 1], equally many; top: (). The sum is
    divided by N unless loss_param says otherwise; targets whose integer part is its ignore_label do
    not count. Caffe's SigmoidCrossEntropyLossLayer.
    """

    def setup(self, *shapes):
        self.read_normalization(default=_MODE.BATCH_SIZE)

    def reshape(self, *shapes):
        self.check_equal_counts(shapes)
        return super().reshape(*shapes)

    def forward(self, x, targets):
        keep = None
        if self.ignore_label is not None:
            keep = targets.reshape(x.shape).long() != self.ignore_label
        self.keep, self.divisor = keep, self.normalizer(len(x), x[0].numel(), keep)
        x = x.to(at_least_single(x.dtype))
        targets = targets.reshape(x.shape).to(x.dtype)
        self.p = x.sigmoid()
        terms = torch.nn.functional.binary_cross_entropy_with_logits(x, targets, reduction="none")
        return (terms if keep is None else terms.where(keep, 0)).sum() / self.divisor

    def backward(self, diffs, bottoms, tops, wanted):
        x, targets = bottoms
        dx = (self.p - targets.reshape(x.shape).to(self.p.dtype)) * (diffs[0] / self.divisor)
        return [(dx if self.keep is None else dx.where(self.keep, 0)).to(x.dtype), None]


@register
class ContrastiveLoss(Loss):
    """Pulls the pairs that are alike together and pushes the others a margin apart.

    bottom 0, 1: a and b, (N, C); bottom 2: 1 for pairs that are alike, else 0, (N,); top: ().
    With d = |a - b| a pair adds d^2 / (2 N), or max(margin - d, 0)^2 / (2 N) if unlike; with
    legacy_version max(margin - d^2, 0) / (2 N). Options: contrastive_loss_param. Hadsell,
    Chopra and LeCun, 2006; Caffe's ContrastiveLossLayer.
    """

    bottom_count = (3, 3)
    param_name = "contrastive_loss_param"

    def reshape(self, *shapes):
        self.check_equal_counts(shapes)
        if math.prod(shapes[2]) != shapes[0][0]:
            raise self.shape_error(
                f"bottom 2 needs one value for each of the {shapes[0][0]} "
                f"pairs; found shape {tuple(shapes[2])}"
            )
        return super().reshape(*shapes)

    def allows_backward(self, index):
        return index != 2

    def forward(self, a, b, alike):
        a = a.reshape(len(a), -1)
        self.difference = a.to(at_least_single(a.dtype)) - b.reshape(a.shape)  # (N, C)
        self.square = square = self.difference.square().sum(1, keepdim=True)  # (N, 1)
        margin = self.options.margin
        if self.options.legacy_version:
            unlike = (margin - square).clamp(min=0)
        else:
            unlike = (margin - square.sqrt()).clamp(min=0).square()
        return torch.where(self._are(alike), square, unlike).sum() / (2 * len(a))

    def backward(self, diffs, bottoms, tops, wanted):
        difference, square, margin = self.difference, self.square, self.options.margin
        if self.options.legacy_version:
            push = (square < margin).to(square.dtype)
        else:
            distance = square.sqrt()
            push = (margin - distance).clamp(min=0) / (distance + 1e-4)  # Caffe's guard against 0
        slope = torch.where(self._are(bottoms[2]), 1, -push)
        da = difference * slope * (diffs[0] / len(difference))
        return [
            (sign * da).reshape(x.shape).to(x.dtype) if want else None
            for sign, x, want in zip((1, -1), bottoms, wanted, strict=False)
        ] + [None]

    def _are(self, alike):
        """Whether each pair is alike, (N, 1)."""
        return alike.reshape(-1, 1).long() != 0
