"""Class labels: bottoms of numbers read as indices, and checked without waiting for a GPU."""

import math
from collections import deque

import torch

from .. import device
from ..arriving import Arriving

_SUM_TOLERANCE = 0.01  # of shares in any precision


class _Checked:
    """A bottom whose extremes are checked: at once on the CPU, on a GPU once they are copied."""

    def __init__(self, layer):
        self.layer = layer
        self._pending = deque()  # (extremes, what else the check needs)

    def expect(self, extremes, *more):
        """Let `_check` see the values of a tensor, and `more`."""
        self._extremes = extremes, more
        if not device.is_recording():
            self.watch()

    def watch(self):
        """Raise if what has come by now is wrong."""
        extremes, more = self._extremes
        self._pending.append((Arriving(extremes), more))
        while self._pending and self._pending[0][0].is_here:
            extremes, more = self._pending.popleft()
            self._check(*extremes.tolist(), *more)


class Labels(_Checked):
    """The label bottom of a layer whose first bottom scores classes along an axis."""

    def __init__(self, layer, ignored=None):
        super().__init__(layer)
        self.ignored = ignored

    def check_count(self, shapes, axis):
        """There must be one label for every vector of scores."""
        scores, labels = tuple(shapes[0]), tuple(shapes[1])
        expected = scores[:axis] + scores[axis + 1 :]
        if math.prod(labels) != math.prod(expected):
            raise self.layer.shape_error(
                f"bottom 0 {scores} has classes along axis {axis}, so bottom 1 needs "
                f"{math.prod(expected)} labels, as in shape {expected}; found shape {labels}"
            )

    def read(self, labels, scores, axis):
        """Indices shaped as `scores` with 1 class, and a mask of those that count (None: all)."""
        shape = scores.shape[:axis] + (1,) + scores.shape[axis + 1 :]
        index, classes = labels.long().reshape(shape), scores.shape[axis]
        keep = None
        if self.ignored is not None:
            keep = index != self.ignored
            index = index * keep
        self.expect(torch.stack(index.aminmax()), classes)
        return index.clamp(0, classes - 1), keep

    def _check(self, low, high, classes):
        for label in (low, high):
            if not 0 <= label < classes:
                raise self.layer.error(
                    f"bottom 1 holds label {label}; with the {classes} classes of bottom 0 labels "
                    f"are 0 to {classes - 1}: mend the data or num_output, or set ignore_label"
                )


class Shares(_Checked):
    """A label bottom with the share of each class, like the scores, as mixed images have."""

    def __init__(self, layer, ignored=None):
        super().__init__(layer)
        if ignored is not None:
            raise layer.error("bottom 1 holds shares of the classes: none of them is ignore_label")

    @staticmethod
    def fit(shapes, axis):
        """Whether there is a share for every score, and so not one label for several."""
        return math.prod(shapes[1]) == math.prod(shapes[0]) and shapes[0][axis] > 1

    def read(self, shares, scores, axis):
        """The shares, shaped as the scores."""
        shares = shares.reshape(scores.shape)
        self.expect(torch.stack([shares.min(), *shares.sum(axis).aminmax()]))
        return shares

    def _check(self, least, *sums):
        if not (least >= 0 and all(abs(total - 1) < _SUM_TOLERANCE for total in sums)):
            raise self.layer.error(
                "bottom 1 is as large as the scores, so it holds shares of the classes; expected "
                f"0 or more, of sum 1; found {least:g}, and sums from {sums[0]:g} to {sums[1]:g}"
            )


class ReadsLabels:
    """A mixin for a layer with its Labels in `self.labels`: what replay needs (see TensorLayer)."""

    def parts(self):
        return [self, self.labels]

    def after_replay(self):
        self.labels.watch()
