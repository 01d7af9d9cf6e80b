"""Which prior boxes stand for which objects, and which of the others a loss counts (SSD)."""

from __future__ import annotations

import numpy as np

from .boxes import areas, overlaps, suppress

UNMATCHED, LEFT_OUT = -1, -2
_NONE = 1e-6  # overlaps up to this are none, as in SSD
_SMALL = 1e-5  # areas below this are left out of a suppression, as in SSD


def match(
    boxes: np.ndarray, truths: np.ndarray, threshold: float | None, inside_only: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The object (its row in truths (G, 4)) of each of `boxes` (P, 4), and their overlap, (P,).

    Bipartite: the pair that overlaps most is matched, then the best pair of the rest, until each
    object has a box. Then, unless `threshold` is None, other boxes get the object that they overlap
    most and at least so much. A box without object is UNMATCHED; its overlap is its largest. With
    inside_only boxes that reach over the border of the image are LEFT_OUT.
    """
    index, best = np.full(len(boxes), UNMATCHED), np.zeros(len(boxes))
    if not len(truths) or not len(boxes):
        return index, best
    shared = overlaps(boxes[:, None], truths)  # (P, G)
    shared[shared <= _NONE] = 0
    if inside_only:
        crossing = ((boxes < 0) | (boxes > 1)).any(1)
        index[crossing], shared[crossing] = LEFT_OUT, 0
    best, left = shared.max(1), shared.copy()
    for _ in range(len(truths)):
        box, truth = divmod(int(left.argmax()), len(truths))
        if not left[box, truth]:
            break
        index[box], best[box] = truth, shared[box, truth]
        left[box], left[:, truth] = 0, 0
    if threshold is not None:
        more = (index == UNMATCHED) & (best > 0) & (best >= threshold)
        index[more] = shared[more].argmax(1)
    return index, best


def mine(
    losses: np.ndarray,
    eligible: np.ndarray,
    most: int,
    boxes: np.ndarray | None = None,
    threshold: float = 0,
    top_k: int = -1,
) -> np.ndarray:
    """The `most` indices (at most) of the largest losses (P,) among those eligible, (P,) bool.

    boxes: if given, (P, 4), of which one that overlaps a worse one by more than `threshold` does
    not count, nor those beyond the top_k largest losses.
    """
    indices = np.flatnonzero(eligible)
    indices = indices[np.argsort(-losses[indices], kind="stable")]
    if boxes is not None:
        indices = indices[: top_k if top_k > -1 else None]
        indices = indices[areas(boxes[indices]) >= _SMALL]
        indices = indices[suppress(boxes[indices], threshold, top_k)]
    return indices[:most]
