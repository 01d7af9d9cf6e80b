"""Losses of classification: SoftmaxWithLoss, InfogainLoss, MultinomialLogisticLoss, HingeLoss."""

import math

import torch

from .. import device
from ..files import weights
from ..layer import register
from ..proto import caffe_pb2
from .labels import Labels, ReadsLabels, Shares
from .loss import Loss, NormalizedLoss, at_least_single

_LARGEST = -math.log(torch.finfo(torch.float32).tiny)  # of one term: Caffe takes log(max(p, tiny))
_SMALLEST_P = 1e-20  # Caffe's kLOG_THRESHOLD


class _SoftmaxLoss(ReadsLabels, NormalizedLoss):
    """A loss of p = softmax(scores) and labels; top 1 (optional) is p, whose diff is ignored."""

    top_count = (1, 2)
    reads_bottom = False

    def setup(self, *shapes):
        self.read_normalization()
        self.labels = Labels(self, self.ignore_label)

    def reshape(self, *shapes):
        self.axis = self.canonical_axis(self.options.axis, shapes[0])
        self.check_labels(shapes)
        super().reshape(*shapes)
        return [(), shapes[0]][: len(self.layer_param.top)]

    def check_labels(self, shapes):
        self.labels.check_count(shapes, self.axis)

    def read_labels(self, labels, scores):
        return self.labels.read(labels, scores, self.axis)

    def forward(self, scores, labels, *rest):
        self.log_p = torch.log_softmax(scores, self.axis, dtype=at_least_single(scores.dtype))
        self.index, self.keep = self.read_labels(labels, scores)
        terms = self.terms(*rest)
        if self.keep is not None:
            terms = terms.where(self.keep, 0)  # selected: an ignored one may be inf or NaN
        self.divisor = self.normalizer(
            math.prod(scores.shape[: self.axis]),
            math.prod(scores.shape[self.axis + 1 :]),
            self.keep,
        )
        loss = terms.sum() / self.divisor
        if len(self.layer_param.top) == 1:
            return loss
        return loss, self.log_p.exp().to(scores.dtype)

    def backward(self, diffs, bottoms, tops, wanted):
        if diffs[0] is None:
            return [None] * len(bottoms)
        dx = self.slopes(self.log_p.exp()).mul_(diffs[0] / self.divisor)
        if self.keep is not None:
            dx.masked_fill_(~self.keep, 0)
        return [dx.to(bottoms[0].dtype)] + [None] * (len(bottoms) - 1)


@register
class SoftmaxWithLoss(_SoftmaxLoss):
    """Mean of -log p[label], p being the softmax of the scores along an axis.

    bottom 0: scores, (N, C, ...); bottom 1: as many labels 0 to C - 1 as there are vectors of
    scores, (N, ...), or shares q of the classes, like the scores: -sum of q log p. top 0: (); top 1
    (optional): p, (N, C, ...). Terms with loss_param's ignore_label do not count; the sum is
    divided as its normalization says. With label_smoothing e, which an extra file of the solver
    sets, p aims at (1 - e) [label] + e / C. Options: loss_param, softmax_param. Caffe's
    SoftmaxWithLossLayer, which takes no shares.
    """

    param_name = "softmax_param"
    label_smoothing = 0.0
    shares = None  # of the classes, where bottom 1 has no labels

    def check_labels(self, shapes):
        each = len(self.layer_param.top) > 2  # the third top is of each label
        kind = Shares if Shares.fit(shapes, self.axis) and not each else Labels
        if type(self.labels) is not kind:
            self.labels, self.shares = kind(self, self.ignore_label), None
        if kind is Labels:
            super().check_labels(shapes)

    def read_labels(self, labels, scores):
        if type(self.labels) is Labels:
            return super().read_labels(labels, scores)
        shares = self.labels.read(labels, scores, self.axis).to(self.log_p.dtype)
        even = self.label_smoothing / scores.shape[self.axis]
        self.shares = shares * (1 - self.label_smoothing) + even
        return None, None

    def terms(self):
        if self.shares is not None:
            log_p = self.log_p.clamp(min=-_LARGEST)
            return -(self.shares * log_p).sum(self.axis, keepdim=True)
        terms = self.log_p.gather(self.axis, self.index).neg().clamp(max=_LARGEST)
        if self.label_smoothing:
            mean = self.log_p.clamp(min=-_LARGEST).mean(self.axis, keepdim=True)
            terms = terms.lerp(-mean, self.label_smoothing)
        return terms

    def slopes(self, p):
        """p - (1 - e) [label] - e / C, computed in the memory of p."""
        if self.shares is not None:
            return p.mul_(self.shares.sum(self.axis, keepdim=True)).sub_(self.shares)
        share = p.new_full((), self.label_smoothing - 1).expand(self.index.shape)
        classes = p.shape[self.axis]
        dx = p.scatter_add_(self.axis, self.index, share)
        return dx.sub_(self.label_smoothing / classes) if self.label_smoothing else dx


@register
class InfogainLoss(_SoftmaxLoss):
    """Mean of -sum over k of H[label, k] log p[k], p being the softmax of the scores.

    bottom 0: scores, (N, C, ...); bottom 1: labels, (N, ...); bottom 2 (optional): H with C x C
    values, else it is read from the binary BlobProto that `source` names. top 0: (); top 1
    (optional): p. Options: infogain_loss_param, loss_param. Caffe's InfogainLossLayer.
    """

    bottom_count = (2, 3)
    param_name = "infogain_loss_param"

    def setup(self, *shapes):
        super().setup(*shapes)
        self.infogain = None
        if len(shapes) == 2:
            if not self.options.source:
                raise self.error(
                    "without bottom 2 it needs infogain_loss_param.source, the file of the matrix H"
                )
            values = torch.from_numpy(weights.read_blob(self.options.source))
            self.infogain = values.to(device.current(), device.master_dtype())

    def reshape(self, *shapes):
        tops = super().reshape(*shapes)
        classes = shapes[0][self.axis]
        found = shapes[2] if len(shapes) > 2 else self.infogain.shape
        if math.prod(found) != classes**2:
            raise self.shape_error(
                f"H must be {classes} x {classes}, for the classes of bottom 0 "
                f"{tuple(shapes[0])}; found shape {tuple(found)}"
            )
        return tops

    def allows_backward(self, index):
        return index == 0

    def terms(self, infogain=None):
        classes = self.log_p.shape[self.axis]
        matrix = self.infogain if infogain is None else infogain
        rows = matrix.reshape(classes, classes)[self.index.squeeze(self.axis)]
        self.gains = rows.to(self.log_p.dtype).movedim(-1, self.axis)  # (N, C, ...)
        log_p = self.log_p.clamp(min=math.log(_SMALLEST_P))
        return -(self.gains * log_p).sum(self.axis, keepdim=True)

    def slopes(self, p):
        return p.mul_(self.gains.sum(self.axis, keepdim=True)).sub_(self.gains)


class _LabelLoss(ReadsLabels, Loss):
    """A loss of one label for each of N vectors: all values of a bottom after the first axis."""

    def setup(self, *shapes):
        self.labels = Labels(self)

    def reshape(self, *shapes):
        self.labels.check_count([(shapes[0][0], math.prod(shapes[0][1:])), shapes[1]], 1)
        return super().reshape(*shapes)

    def rows(self, x):
        return x.reshape(len(x), -1).to(at_least_single(x.dtype))


@register
class MultinomialLogisticLoss(_LabelLoss):
    """Mean of -log p[label] for probabilities that are given; SoftmaxWithLoss is more exact.

    bottom 0: p, (N, C); bottom 1: labels, (N,); top: (). Caffe's MultinomialLogisticLossLayer.
    """

    def forward(self, p, labels):
        rows = self.rows(p)
        self.index, _ = self.labels.read(labels, rows, 1)
        return -rows.gather(1, self.index).clamp(min=_SMALLEST_P).log().mean()

    def backward(self, diffs, bottoms, tops, wanted):
        p = bottoms[0]
        rows = self.rows(p)
        slopes = (-diffs[0] / len(p)) / rows.gather(1, self.index).clamp(min=_SMALLEST_P)
        dp = torch.zeros_like(rows).scatter_(1, self.index, slopes)
        return [dp.view(p.shape).to(p.dtype), None]


@register
class HingeLoss(_LabelLoss):
    """Mean of the sum over k of max(0, 1 - t[k] x[k]), t being 1 at the label, else -1.

    bottom 0: scores, (N, C); bottom 1: labels, (N,); top: (). With norm L2 the margins are
    squared. Options: hinge_loss_param. Caffe's HingeLossLayer.
    """

    param_name = "hinge_loss_param"
    reads_bottom = False

    def forward(self, scores, labels):
        rows = self.rows(scores)
        index, _ = self.labels.read(labels, rows, 1)
        self.signs = torch.ones_like(rows).scatter_(1, index, -1)  # -t
        self.margins = (1 + rows * self.signs).clamp(min=0)
        return (self.margins if self._is_l1 else self.margins.square()).sum() / len(scores)

    def backward(self, diffs, bottoms, tops, wanted):
        scores = bottoms[0]
        slopes = self.margins.sign() if self._is_l1 else 2 * self.margins
        dx = slopes * self.signs * (diffs[0] / len(scores))
        return [dx.view(scores.shape).to(scores.dtype), None]

    @property
    def _is_l1(self):
        return self.options.norm == caffe_pb2.HingeLossParameter.L1
