"""The mean of a net's outputs over batches: what a test reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def mean_outputs(
    net: Any,
    batches: int,
    go_on: Callable[[], bool] = lambda: True,
    observe: Callable[[int], None] = lambda batch: None,
) -> tuple[float, dict[str, Any]] | None:
    """(mean loss, {output name: mean array in float64}) of as many forward passes.

    net: a caffe.Net, of any Caffe; go_on: asked before each batch, and where it says False the
    test ends and the answer is None; observe: told the batch's number after its pass. Of no
    batches the loss is 0 and the outputs are none.
    """
    loss = 0.0
    totals: dict[str, Any] = {}
    for batch in range(batches):
        if not go_on():
            return None
        loss += net._forward(0, len(net.layers) - 1)
        for name in net.outputs:
            totals[name] = totals.get(name, 0) + net.blobs[name].data.astype("float64")
        observe(batch)
    return loss / max(batches, 1), {name: total / batches for name, total in totals.items()}
