"""The mean of a net's outputs over batches: what a test reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .average_precision import Detections


def mean_outputs(
    net: Any,
    batches: int,
    go_on: Callable[[], bool] = lambda: True,
    observe: Callable[[int], None] = lambda batch: None,
    ap_version: str = "Integral",
    each_class: Callable[[int, float], None] = lambda label, precision: None,
) -> tuple[float, dict[str, Any]] | None:
    """(mean loss, {output name: mean array in float64}) of as many forward passes.

    net: a caffe.Net, of any Caffe; go_on: asked before each batch, and where it says False the
    test ends and the answer is None; observe: told the batch's number after its pass. Of no
    batches the loss is 0 and the outputs are none. The output of a DetectionEvaluate layer becomes
    the mean average precision over the classes, () (see average_precision for ap_version);
    each_class is told the label and the average precision of each.
    """
    loss = 0.0
    totals: dict[str, Any] = {}
    detections = Detections(net, ap_version)
    for batch in range(batches):
        if not go_on():
            return None
        loss += net._forward(0, len(net.layers) - 1)
        detections.observe()
        for name in net.outputs:
            values = 0 if name in detections.outputs else net.blobs[name].data.astype("float64")
            totals[name] = totals.get(name, 0) + values
        observe(batch)
    means = {name: total / batches for name, total in totals.items()}
    for name in detections.outputs if batches else ():
        found = detections.by_class(name)
        for label, precision in found.items():
            each_class(label, precision)
        means[name] = np.array(sum(found.values()) / max(len(found), 1))
    return loss / max(batches, 1), means
