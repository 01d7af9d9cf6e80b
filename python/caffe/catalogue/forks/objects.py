"""Objects of an image, rows (label, instance, xmin, ymin, xmax, ymax, difficult), as it changes.

Coordinates are in parts of the image; a window is (xmin, ymin, xmax, ymax) in parts of it too.
"""

from __future__ import annotations

import numpy as np

from ...proto import caffe_pb2
from .boxes import areas

UNIT = np.array([0.0, 0.0, 1.0, 1.0])
LABEL, BOX, DIFFICULT = 0, slice(2, 6), 6
_SLIVER = 1e-6  # thinner ones come of rounding
_EMIT, _MODE = caffe_pb2.EmitConstraint, caffe_pb2.ResizeParameter


def read(datum: caffe_pb2.AnnotatedDatum) -> np.ndarray:
    """The objects (G, 7) of a record."""
    rows = [
        (group.group_label, one.instance_id, b.xmin, b.ymin, b.xmax, b.ymax, b.difficult)
        for group in datum.annotation_group
        for one in group.annotation
        for b in (one.bbox,)
    ]
    return np.array(rows, float).reshape(-1, 7)


def seen(
    objects: np.ndarray, window: np.ndarray, emit: caffe_pb2.EmitConstraint | None
) -> np.ndarray:
    """The objects of what `window` shows, in parts of it: those that reach into it, cut off.

    emit: which of them stay: whose center lies in the window, or of whose area it shows more than
    emit_overlap; None: all.
    """
    boxes = objects[:, BOX]
    if emit is not None:
        objects = objects[_are_emitted(boxes, window, emit)]
        boxes = objects[:, BOX]
    low, size = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    shown = objects.copy()
    shown[:, BOX] = np.clip((boxes - low) / size, 0, 1)
    return shown[(shown[:, 4:6] - shown[:, 2:4] > _SLIVER).all(1)]


def coverage(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The share of each box (N, 4), by area, that lies in the window."""
    cut = np.concatenate(
        [np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])], 1
    )
    whole = areas(boxes)
    return np.where((cut[:, 2:] > cut[:, :2]).all(1), areas(cut), 0) / np.where(whole > 0, whole, 1)


def _are_emitted(boxes: np.ndarray, window: np.ndarray, emit) -> np.ndarray:
    if emit.emit_type == _EMIT.MIN_OVERLAP:
        return coverage(boxes, window) > emit.emit_overlap
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((center >= window[:2]) & (center <= window[2:])).all(1)


def resized(
    objects: np.ndarray, size: tuple[int, int], param: caffe_pb2.ResizeParameter
) -> np.ndarray:
    """The objects after an image of `size` (height, width) is resized as `param` says."""
    boxes = np.clip(objects[:, BOX], 0, 1)
    if param.resize_mode == _MODE.FIT_LARGE_SIZE_AND_PAD:
        own, made = size[1] / size[0], param.width / param.height  # width / height
        share = np.tile([1, made / own] if own > made else [own / made, 1], 2)
        boxes = (1 - share) / 2 + boxes * share
    return np.hstack([objects[:, :2], boxes, objects[:, 6:]])


def mirrored(objects: np.ndarray) -> np.ndarray:
    """The objects of the image seen in a mirror, left for right."""
    flipped = objects.copy()
    flipped[:, [2, 4]] = 1 - objects[:, [4, 2]]
    return flipped
