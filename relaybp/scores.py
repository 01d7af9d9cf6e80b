"""The accuracies of a test: each record counts once, and a score that is not finite is never right.

Caffe's Accuracy layer counts how many scores are as high as that of the true class. To NaN none is,
so that a net whose scores are all NaN is always right. The last batch of a test shows the first
records again, where the batches hold more images than the database has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from caffe_plain.database import count_records
from caffe_plain.phases import TEST, layers_of, state_of

from .data_layers import data_layers
from .graph import Graph


class Scores:
    """Looks at the scores of a test net, batch by batch.

    params: {name: LayerParameter} of its layers; records: how many there are to test, None where
    nobody knows. `images`: how many images have counted; `not_finite`: how many of them (or of
    their positions) had a score that is not finite.
    """

    def __init__(self, net: Any, params: Mapping[str, Any], records: int | None = None):
        graph = Graph(net)
        self._net, self._records = net, records
        self._layers = [
            (graph.bottoms[index], graph.tops[index][0], params[name].accuracy_param)
            for index, name in enumerate(graph.names)
            if graph.types[index] == "Accuracy"
        ]
        self._right: dict[str, float] = {top: 0.0 for _, top, _ in self._layers}  # images
        self._as_caffe = True  # whether the means of the layers' own outputs are right
        self.images = self.not_finite = 0

    def observe(self, batch: int) -> None:
        """Look at the scores of the batch that has just run."""
        images = next(iter(self._net.blobs.values())).shape[0]
        counted = images
        if self._records is not None:
            counted = min(images, self._records - self.images)
        self.images += counted
        bad = [0]
        for (scores, labels), top, param in self._layers:
            data, share = self._net.blobs[scores].data, float(self._net.blobs[top].data)
            if counted < images or not np.isfinite(data).all():
                self._as_caffe = False
                part = slice(counted if len(data) == images else None)
                found, share = rightly(data[part], self._net.blobs[labels].data[part], param)
                bad.append(found)
            self._right[top] += share * counted
        self.not_finite += max(bad)

    def correct(self, means: dict[str, Any]) -> None:
        """Put the shares of the images that count in the place of the mean outputs of a test."""
        for top, right in self._right.items() if not self._as_caffe else ():
            if top in means:
                means[top] = np.array(right / self.images)


def blobs_read(net: Any) -> list[str]:
    """The blobs whose values Scores reads in a test net."""
    graph = Graph(net)
    accuracies = [index for index, kind in enumerate(graph.types) if kind == "Accuracy"]
    return [name for index in accuracies for name in graph.bottoms[index]]


def rightly(scores: np.ndarray, labels: np.ndarray, param: Any) -> tuple[int, float]:
    """(how many positions have a score that is not finite, the share of all that are right).

    scores: (N, C, ...) with the classes in param.axis; labels: one for each position; param: an
    AccuracyParameter.
    """
    rows = np.moveaxis(scores, param.axis, -1).reshape(-1, scores.shape[param.axis])
    labels = labels.reshape(-1).astype(int)
    if param.HasField("ignore_label"):
        rows, labels = (values[labels != param.ignore_label] for values in (rows, labels))
    finite = np.isfinite(rows).all(1)
    with np.errstate(invalid="ignore"):
        better = (rows >= rows[np.arange(len(rows)), labels][:, None]).sum(1) - 1
    right = finite & (better < param.top_k)
    return int((~finite).sum()), float(right.sum() / max(len(rows), 1))


def records_of_test(net_param: Any, stages: Any) -> int | None:
    """How many records the TEST phase of a NetParameter reads, with further stages.

    None where it has not one Data or SceneData layer.
    """
    layers = data_layers(layers_of(net_param, state_of(net_param, TEST, stages=stages)))
    return count_records(layers[0].get("source")) if len(layers) == 1 else None
