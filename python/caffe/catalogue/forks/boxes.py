"""Boxes (xmin, ymin, xmax, ymax): overlaps, suppression, decoding; the base of layers of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...blob import Blob
from ...layer import TensorLayer
from ...proto import caffe_pb2

_CODE = caffe_pb2.PriorBoxParameter
_LARGEST_EXPONENT = 88.0  # of e, in the range of a float
_SMALLEST = np.finfo(np.float64).tiny  # of an area that something is divided by


class BoxLayer(TensorLayer):
    """A layer whose tops are coordinates, which keep full precision and pass no gradient."""

    differentiable = False
    replays = False

    def connect(self, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
        for blob in tops:
            blob.master = True


def areas(boxes: np.ndarray, pixel: float = 0) -> np.ndarray:
    """The areas of boxes (..., 4), 0 for those turned inside out.

    pixel: what a box is larger than its difference of coordinates: 1 where both ends belong to it.
    """
    sizes = boxes[..., 2:] - boxes[..., :2]
    return np.where((sizes < 0).any(-1), 0, (sizes + pixel).prod(-1))


def overlaps(box: np.ndarray, boxes: np.ndarray, pixel: float = 0) -> np.ndarray:
    """The intersection of `box` (..., 4) with each of `boxes` (N, 4), divided by their union."""
    low = np.maximum(box[..., :2], boxes[..., :2])
    high = np.minimum(box[..., 2:], boxes[..., 2:])
    both = np.maximum(high - low + pixel, 0).prod(-1)
    return both / np.maximum(areas(box, pixel) + areas(boxes, pixel) - both, _SMALLEST)


def suppress(
    boxes: np.ndarray, threshold: float, most: int = -1, eta: float = 1, pixel: float = 0
) -> list[int]:
    """The indices of boxes (N, 4), best first, that overlap no better one by more than `threshold`.

    most: how many are kept at most (-1: any number). eta < 1 lowers a threshold above 0.5 with
    every box that is kept (SSD's adaptive threshold).
    """
    sides, area = np.ascontiguousarray(boxes.T), areas(boxes, pixel)
    largest, kept = np.zeros(len(boxes)), []  # overlap with a kept box
    for index in range(len(boxes)):
        if len(kept) == most:
            break
        if largest[index] > threshold:
            continue
        kept.append(index)
        left, top, right, bottom = sides[:, index]
        x1, y1, x2, y2 = sides[:, index + 1 :]
        width = np.minimum(x2, right) - np.maximum(x1, left) + pixel
        height = np.minimum(y2, bottom) - np.maximum(y1, top) + pixel
        both = np.maximum(width, 0) * np.maximum(height, 0)
        union = np.maximum(area[index] + area[index + 1 :] - both, _SMALLEST)
        np.maximum(largest[index + 1 :], both / union, largest[index + 1 :])
        if eta < 1 and threshold > 0.5:
            threshold *= eta
    return kept


def growth(codes: np.ndarray) -> np.ndarray:
    """How many times as large codes make a box: e^code, as far as a float can hold it."""
    return np.exp(np.minimum(codes, _LARGEST_EXPONENT))


def decode(
    codes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code_type: int
) -> np.ndarray:
    """The boxes (..., P, 4) that `codes` stand for, relative to priors (P, 4) or of codes' shape.

    variances: (P, 4), factors of the codes; None where they were multiplied in. code_type: of
    PriorBoxParameter.CodeType.
    """
    if variances is not None:
        codes = codes * variances
    if code_type == _CODE.CORNER:
        return priors + codes
    low, size = priors[..., :2], priors[..., 2:] - priors[..., :2]
    if code_type == _CODE.CORNER_SIZE:
        return priors + codes * np.tile(size, 2)
    center = low + size / 2 + codes[..., :2] * size
    half = growth(codes[..., 2:]) * size / 2
    return np.concatenate([center - half, center + half], -1)


def encode(
    boxes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code_type: int
) -> np.ndarray:
    """The codes (M, 4) that stand for `boxes` relative to priors (M, 4): `decode` undoes it."""
    low, size = priors[:, :2], priors[:, 2:] - priors[:, :2]
    if code_type == _CODE.CORNER:
        codes = boxes - priors
    elif code_type == _CODE.CORNER_SIZE:
        codes = (boxes - priors) / np.tile(size, 2)
    else:
        own = boxes[:, 2:] - boxes[:, :2]
        shift = (boxes[:, :2] + own / 2 - low - size / 2) / size
        codes = np.concatenate([shift, np.log(own / size)], -1)
    return codes if variances is None else codes / variances
