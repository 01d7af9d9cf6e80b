"""The accuracies of a test, in which a score that is not finite never counts as right.

Caffe's Accuracy layer counts how many scores are as high as that of the true class. To NaN none is,
so that a net whose scores are all NaN is always right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .graph import Graph


class Scores:
    """Looks at the scores of a test net, batch by batch.

    params: {name: LayerParameter} of its layers. `not_finite`: how many images (or positions) had a
    score that is not finite.
    """

    def __init__(self, net: Any, params: Mapping[str, Any]):
        graph = Graph(net)
        self._net = net
        self._layers = [
            (graph.bottoms[index], graph.tops[index][0], params[name].accuracy_param)
            for index, name in enumerate(graph.names)
            if graph.types[index] == "Accuracy"
        ]
        self._wrong: dict[str, float] = {}
        self.not_finite = 0

    def observe(self, batch: int) -> None:
        """Look at the scores of the batch that has just run."""
        counts = [0]
        for (scores, labels), top, param in self._layers:
            data = self._net.blobs[scores].data
            if not np.isfinite(data).all():
                labels = self._net.blobs[labels].data
                bad, share = wrongly_right(data, labels, param)
                counts.append(bad)
                self._wrong[top] = self._wrong.get(top, 0.0) + share
        self.not_finite += max(counts)

    def correct(self, means: dict[str, Any], batches: int) -> None:
        """Take what was wrongly counted as right out of the mean outputs of a test."""
        for top, share in self._wrong.items():
            if top in means:
                means[top] = np.maximum(means[top] - share / batches, 0)


def wrongly_right(scores: np.ndarray, labels: np.ndarray, param: Any) -> tuple[int, float]:
    """(how many positions have a score that is not finite, the share of all that Caffe counts as
    right among them).

    scores: (N, C, ...) with the classes in param.axis; labels: one for each position; param: an
    AccuracyParameter.
    """
    rows = np.moveaxis(scores, param.axis, -1).reshape(-1, scores.shape[param.axis])
    labels = labels.reshape(-1).astype(int)
    if param.HasField("ignore_label"):
        rows, labels = (values[labels != param.ignore_label] for values in (rows, labels))
    bad = ~np.isfinite(rows).all(1)
    rows, labels = rows[bad], labels[bad]
    with np.errstate(invalid="ignore"):
        better = (rows >= rows[np.arange(len(rows)), labels][:, None]).sum(1) - 1
    return len(rows), float((better < param.top_k).sum() / max(len(bad), 1))
