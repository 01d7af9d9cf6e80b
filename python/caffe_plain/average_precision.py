"""Average precision: what a test of detections reports (SSD's DetectionEvaluate layer).

Plain Python, so that a driver on another Caffe can use it too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

VERSIONS = ("Integral", "MaxIntegral", "11point")


def average_precision(
    scores: np.ndarray, right: np.ndarray, objects: int, version: str = "Integral"
) -> float:
    """The area under precision over recall of detections, best score first.

    scores, right: (D,), whether each found an object that no better one has found; objects: how
    many there are. version: "Integral" sums precision times the step of recall; "MaxIntegral" (VOC
    2012) takes for each recall the best precision from there on; "11point" (VOC 2007) the mean of
    that at recalls 0, 0.1, ... 1. Without objects or detections it is 0.
    """
    if not len(scores) or not objects:
        return 0.0
    found = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision, recall = found / np.arange(1, len(found) + 1), found / objects
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if version == "11point":
        reached = [best[recall >= tenth / 10] for tenth in range(11)]
        return float(sum(part[0] for part in reached if len(part)) / 11)
    if version not in VERSIONS:
        raise ValueError(f"version {version!r}: expected one of {', '.join(VERSIONS)}")
    steps = np.diff(recall, prepend=0)
    return float((steps * (best if version == "MaxIntegral" else precision)).sum())


class Detections:
    """What the DetectionEvaluate layers of a test net say, batch by batch.

    `outputs` names their tops, which have a row for each class and one for each detection, not the
    same number in every batch: their mean has no meaning.
    """

    def __init__(self, net: Any, version: str = "Integral") -> None:
        self.version = version
        self._net = net
        layers = zip(net._layer_names, net.layers)
        self.outputs = [
            net.top_names[name][0] for name, layer in layers if layer.type == "DetectionEvaluate"
        ]
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}

    def observe(self) -> None:
        """Take in the batch that has just run."""
        for name, rows in self._rows.items():
            rows.append(self._net.blobs[name].data.reshape(-1, 5).astype("float64"))

    def by_class(self, output: str) -> dict[int, float]:
        """The average precision of each class, by its label."""
        rows = np.concatenate(self._rows[output])
        counts, found = rows[rows[:, 0] == -1], rows[rows[:, 0] != -1]
        found = found[found[:, 3:].any(1)]  # a difficult object is neither right nor wrong
        labels = sorted({int(label) for label in counts[:, 1]})
        return {
            label: average_precision(
                found[found[:, 1] == label, 2],
                found[found[:, 1] == label, 3],
                int(counts[counts[:, 1] == label, 2].sum()),
                self.version,
            )
            for label in labels
        }
