"""What py-faster-rcnn's Python layers train towards, where that package is not there.

Settings are those of its faster_rcnn_end2end.yml. Draws are the engine's, so that runs repeat
and a resumed one goes on; of a given permutation they take what numpy.random.choice takes there.
Boxes (x1, y1, x2, y2) are in pixels of the resized image, and their last pixels belong to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caffe_plain.errors import LayerError
from caffe_plain.python_layers import STAND_INS

from ... import device
from ...blob import Blob
from ...layer import Layer
from .boxes import overlaps
from .proposal import options_of, read_anchors, shifted

ANCHORS, ANCHORS_OBJECT = 256, 0.5  # how many count, and at most which share are objects
OBJECT, GROUND = 0.7, 0.3  # overlaps of anchors from which on, and below which
REGIONS, REGIONS_OBJECT = 128, 0.25  # the same of regions
REGION_OBJECT = 0.5  # overlap from which on a region is an object; below it is ground
STDS = np.array([0.1, 0.1, 0.2, 0.2])  # what codes of regions are divided by


def coded(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """The codes (N, 4) that move and scale boxes (N, 4) to truths (N, 4): `moved` undoes it."""
    size, wanted = (x[:, 2:] - x[:, :2] + 1 for x in (boxes, truths))
    shift = truths[:, :2] + wanted / 2 - boxes[:, :2] - size / 2
    return np.hstack([shift / size, np.log(wanted / size)])


def label_anchors(
    anchors: np.ndarray, truths: np.ndarray, image: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Of anchors (N, 4): 1 for an object, 0 for ground, -1 for neither, and the object's row.

    truths: the objects, (G, 4); image: its height and width. Anchors that reach over the border
    count for nothing; of the others at most ANCHORS are drawn.
    """
    labels = np.full(len(anchors), -1)
    high = np.array([image[1], image[0]])
    inside = ((anchors[:, :2] >= 0) & (anchors[:, 2:] < high)).all(1)
    shared = overlaps(anchors[:, None], truths, 1) * inside[:, None]  # (N, G)
    best = shared.max(1)
    labels[inside & (best < GROUND)] = 0
    most = shared.max(0)
    labels[((shared == most) & (most > 0)).any(1)] = 1  # each object has an anchor
    labels[best >= OBJECT] = 1
    _keep(labels, 1, int(ANCHORS_OBJECT * ANCHORS))
    _keep(labels, 0, ANCHORS - (labels == 1).sum())
    return labels, shared.argmax(1)


def _keep(labels: np.ndarray, value: int, most: int) -> None:
    """Leave at most `most` labels of a value; the others become -1."""
    found = np.flatnonzero(labels == value)
    if len(found) > most:
        labels[_drawn(found, len(found) - most)] = -1


def _drawn(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, each at most once."""
    order = torch.randperm(len(rows), generator=device.generator())
    return rows[order[:count].numpy()]


def draw_regions(regions: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows of regions (R, 4), the object (a row of truths (G, 4)) of each, and how many are one.

    At most REGIONS are drawn; those that are objects come first, the others are ground.
    """
    shared = overlaps(regions[:, None], truths, 1)
    best, owner = shared.max(1), shared.argmax(1)
    found, ground = np.flatnonzero(best >= REGION_OBJECT), np.flatnonzero(best < REGION_OBJECT)
    objects = min(len(found), round(REGIONS_OBJECT * REGIONS))
    rows = np.concatenate([_drawn(found, objects), _drawn(ground, REGIONS - objects)])
    return rows, owner[rows], objects


class _TargetLayer(Layer):
    """A layer whose tops are targets: no gradient passes through it."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The sizes follow from the values of the bottoms."""

    def backward(
        self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """Targets are given."""

    @staticmethod
    def hand_out(top: Sequence[Blob], values: Sequence[np.ndarray]) -> None:
        """Put the values into the tops."""
        for blob, array in zip(top, values, strict=True):
            blob.reshape(*array.shape)
            blob.data[...] = array


def _objects(blob: Blob) -> np.ndarray:
    rows = blob.data.reshape(-1, 5).astype(float)
    if not len(rows):
        raise LayerError("gt_boxes is empty; leave images without objects out, as py-faster-rcnn")
    return rows


class AnchorTargetLayer(_TargetLayer):
    """rpn.anchor_target_layer.AnchorTargetLayer of py-faster-rcnn.

    bottoms: scores, of which only H and W count, (1, 2 A, H, W); objects (G, 5), rows (x1, y1, x2,
    y2, label); the image's height, width and scale, (1, 3); the image. tops: labels, (1, 1, A H,
    W); codes, their inside weights (1 for objects) and their outside weights (1 / how many count),
    each (1, 4 A, H, W). param_str: 'feat_stride' and optionally 'scales'.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the anchors, give the tops their shapes."""
        self.stride, self.anchors = read_anchors(self.param_str)
        count, (height, width) = len(self.anchors), bottom[0].data.shape[2:]
        top[0].reshape(1, 1, count * height, width)
        for blob in top[1:]:
            blob.reshape(1, 4 * count, height, width)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Label the anchors."""
        size, count = bottom[0].data.shape[2:], len(self.anchors)
        truths = _objects(bottom[1])[:, :4]
        boxes = shifted(self.anchors, *size, self.stride)
        labels, owner = label_anchors(boxes, truths, bottom[2].data.ravel()[:2])
        counts = (labels >= 0)[:, None] / max((labels >= 0).sum(), 1)
        inside = np.repeat(labels[:, None] == 1, 4, 1)
        codes = coded(boxes, truths[owner]) * (labels >= 0)[:, None]
        maps = [
            values.reshape(*size, 4 * count).transpose(2, 0, 1)[None]
            for values in (codes, inside, np.repeat(counts, 4, 1))
        ]
        labels = labels.reshape(*size, count).transpose(2, 0, 1).reshape(1, 1, -1, size[1])
        self.hand_out(top, [labels, *maps])


class ProposalTargetLayer(_TargetLayer):
    """rpn.proposal_target_layer.ProposalTargetLayer of py-faster-rcnn.

    bottoms: regions, (R, 5); objects, (G, 5), which are regions too. tops: regions (R', 5), their
    labels (R',), codes, inside and outside weights (1 for the label's codes of objects), each
    (R', 4 classes). param_str: 'num_classes'.

    NOTE: the codes are divided by the `STDS`, as with BBOX_NORMALIZE_TARGETS_PRECOMPUTED; for a
    deploy net py-faster-rcnn multiplies bbox_pred's weights by them when it snapshots.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the number of classes."""
        options = options_of(self.param_str)
        if not options.get("num_classes", "").isdecimal():
            raise LayerError(f"param_str {self.param_str!r}: expected \"'num_classes': 21\"")
        self.classes = int(options["num_classes"])
        top[0].reshape(1, 5)
        top[1].reshape(1)
        for blob in top[2:]:
            blob.reshape(1, 4 * self.classes)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw regions and label them."""
        truths = _objects(bottom[1])
        given = np.hstack([np.zeros((len(truths), 1)), truths[:, :4]])
        regions = np.vstack([bottom[0].data.reshape(-1, 5), given])
        rows, owner, objects = draw_regions(regions[:, 1:], truths[:, :4])
        labels = truths[owner, 4].astype(int)
        labels[objects:] = 0
        codes = np.zeros((len(rows), self.classes, 4))
        inside = np.zeros_like(codes)
        first = np.arange(objects), labels[:objects]
        boxes = regions[rows[:objects], 1:]
        codes[first] = coded(boxes, truths[owner[:objects], :4]) / STDS
        inside[first] = 1
        weights = inside.reshape(len(rows), -1)
        self.hand_out(
            top, [regions[rows], labels, codes.reshape(len(rows), -1), weights, weights > 0]
        )


STAND_INS["rpn.anchor_target_layer", "AnchorTargetLayer"] = AnchorTargetLayer
STAND_INS["rpn.proposal_target_layer", "ProposalTargetLayer"] = ProposalTargetLayer
