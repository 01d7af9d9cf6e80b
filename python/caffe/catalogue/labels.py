"""Class labels: bottoms of numbers read as indices, and checked without waiting for a GPU."""

import math
from collections import deque

import torch

from .. import device
from ..arriving import Arriving


class Labels:
    """The label bottom of a layer whose first bottom scores classes along an axis."""

    def __init__(self, layer, ignored=None):
        self.layer, self.ignored = layer, ignored
        self._pending = deque()  # (smallest and largest label, classes)

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
        self._extremes = torch.stack(index.aminmax()), classes
        if not device.is_recording():
            self.watch()
        return index.clamp(0, classes - 1), keep

    def watch(self):
        """Raise if a label was out of range: at once on the CPU, on a GPU once it is copied."""
        extremes, classes = self._extremes
        self._pending.append((Arriving(extremes), classes))
        while self._pending and self._pending[0][0].is_here:
            extremes, classes = self._pending.popleft()
            self._check(*extremes.tolist(), classes)

    def _check(self, low, high, classes):
        for label in (low, high):
            if not 0 <= label < classes:
                raise self.layer.error(
                    f"bottom 1 holds label {label}; with the {classes} classes of bottom 0 labels "
                    f"are 0 to {classes - 1}: mend the data or num_output, or set ignore_label"
                )


class ReadsLabels:
    """A mixin for a layer with its Labels in `self.labels`: what replay needs (see TensorLayer)."""

    def parts(self):
        return [self, self.labels]

    def after_replay(self):
        self.labels.watch()
