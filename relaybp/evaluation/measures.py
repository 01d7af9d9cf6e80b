"""Error rates of class scores: of all images, and of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KS = (1, 5)  # of the top-k errors that papers report


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many other classes score as high as the true one or higher: (N, classes) to (N,).

    As in Caffe's Accuracy layer, a tie counts against the net.
    """
    return (scores >= scores[np.arange(len(labels)), labels][:, None]).sum(1) - 1


def errors(found: np.ndarray, classes: int, ks: Sequence[int] = KS) -> dict[int, float]:
    """{k: top-k error in %} of the ranks `found`, for each k below the number of classes."""
    return {k: 100 * float((found >= k).mean()) for k in ks if k < classes}


def class_errors(
    found: np.ndarray, labels: np.ndarray, classes: int, k: int = 5
) -> list[tuple[int, int, float]]:
    """[(label, images, top-k error in %)] of each class that has images, the best first.

    Of few classes k is one less than their number.
    """
    wrong = found >= min(k, classes - 1)
    rows = [
        (int(label), int((labels == label).sum()), 100 * float(wrong[labels == label].mean()))
        for label in np.unique(labels)
    ]
    return sorted(rows, key=lambda row: (row[2], row[0]))
