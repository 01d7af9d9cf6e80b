"""What a train net reads, and how its first filters look, while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .data_layers import data_layers
from .data_prep.colour_order import RGB, colour_order
from .graph import Graph
from .pictures import sheet, tiles

IMAGES, FILTERS = 8, 96  # that are shown, at most


class Pictures:
    """Called after a forward pass, yields (tag, uint8 pixels (H, W, 4)) of what there is to see.

    `batch`: the first images of the batch, as the net sees them; `filters/LAYER`: the weights of
    the convolution that reads them. Nothing of a net that reads no images.
    """

    def __init__(self, graph: Graph, engine: Any, solver: Any):
        self.data = graph.net.blobs[graph.tops[0][0]]
        sources = [layer.get("source") for layer in data_layers(engine.net_param(solver).layer)]
        self.is_rgb = any(colour_order(source) == RGB for source in sources[:1])
        self.filters = {
            graph.names[index]: graph.layers[index].blobs[0]
            for index, kind in enumerate(graph.types)
            if kind == "Convolution" and graph.behind_splits(graph.feeders[index][0]) == 0
        }

    def __call__(self) -> Iterator[tuple[str, np.ndarray]]:
        if len(self.data.shape) != 4:
            return
        yield "batch", self._sheet(self.data.data[:IMAGES], IMAGES // 2)
        for name, weights in self.filters.items():
            yield f"filters/{name}", self._sheet(weights.data[:FILTERS], 16)

    def _sheet(self, values: Any, columns: int) -> np.ndarray:
        return sheet(tiles(np.asarray(values, np.float64), self.is_rgb), columns)
