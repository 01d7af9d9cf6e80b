"""Diagnostics while training: what each loss does to each layer with weights.

RUN/probe.csv has a row (iteration, part, layer, flow, quantity, value), part being the trunk or the
loss whose own branch the layer belongs to, and the run's event file a scalar
quantity/layer/flow, for

- gradient: mean |g| of the layer's weights, for each flow and for `all` flows summed;
- relative: mean |g| / mean |w|, for `all` (with gradient: Figure 1 of the relay paper);
- share: ||g|| of a flow over the sum of all flows' ||g||, where several flows meet;
- cosine: between the gradients of two flows ("loss & aux_loss") that meet.

g is the gradient of an iteration's first batch, with the losses' weights, before any scaling. The
event file also gets histograms, weights/layer and gradients/layer (of all flows summed), and
images: the first of the batch, as the net sees them, and the filters of the first convolution.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from .events import EventFile
from .graph import DEEP, Graph
from .probe_pictures import Pictures
from .report import ignore_full_disk
from .schedules import Schedule
from .tables import PROBE

HEADER = ("iteration", "part", "layer", "flow", "quantity", "value")


class Probe:
    """Measures every `every` iterations of a schedule, which calls it after its forward pass.

    run: the folder of probe.csv; events: an EventFile, which gets the same.
    """

    def __init__(self, schedule: Schedule, every: int, run: str, events: EventFile | None = None):
        self.solver, self.net, self.every = schedule.solver, schedule.net, every
        self.path, self.events = os.path.join(run, PROBE), events
        graph = Graph(self.net)
        self.flows = schedule.flows
        self.backwards = [schedule.engine.backward(self.net, [flow]) for flow in self.flows]
        # the measuring passes run in addition to the training passes
        schedule.engine.check_repeated(graph, self.flows * 2, "--probe")
        self.layers = [
            index
            for index, kind in enumerate(graph.types)
            if kind in DEEP and len(graph.layers[index].blobs)
        ]
        self.names = graph.names
        self.parts = {
            index: graph.names[loss]
            for loss in graph.losses
            if loss != graph.final
            for index in graph.head(loss)
        }
        self.weights = {index: graph.layers[index].blobs[0] for index in self.layers}
        self.pictures = Pictures(graph, schedule.engine, self.solver) if events else None

    def __call__(self) -> None:
        if self.solver.iter % self.every:
            return
        rows: list[tuple] = []
        found = self._gradients()
        for index in self.layers:
            weight = np.asarray(self.weights[index].data, np.float64)
            where = self.parts.get(index, "trunk"), self.names[index]
            rows.extend((*where, *row) for row in measures(weight, found[index]))
        with ignore_full_disk():
            self._write_table(rows)
        if self.events:
            with ignore_full_disk():
                self._write_events(self.events, rows, found)

    def _write_table(self, rows: list[tuple]) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(HEADER)
            for row in rows:
                writer.writerow((self.solver.iter, *row[:-1], f"{row[-1]:.6g}"))

    def _write_events(self, events: EventFile, rows: list[tuple], found: Any) -> None:
        step = self.solver.iter
        for _, layer, flow, quantity, value in rows:
            events.scalar(step, f"{quantity}/{layer}/{flow}", value)
        for index in self.layers:
            name = self.names[index]
            events.histogram(step, f"weights/{name}", self.weights[index].data)
            if found[index]:
                events.histogram(step, f"gradients/{name}", sum(found[index].values()))
        if self.pictures:
            for tag, pixels in self.pictures():
                events.image(step, tag, pixels)

    def _gradients(self):
        """{layer: {loss: gradient}} of every flow by itself."""
        found = {index: {} for index in self.layers}
        for flow, run in zip(self.flows, self.backwards):
            self.net.clear_param_diffs()
            run()
            for index in flow.layers.intersection(self.layers):
                found[index][flow.loss] = np.array(self.weights[index].diff, np.float64)
        self.net.clear_param_diffs()
        return found


def measures(
    weight: np.ndarray, gradients: dict[str, np.ndarray]
) -> Iterator[tuple[str, str, float]]:
    """(flow, quantity, value) of one layer; gradients: {loss: array}."""
    if not gradients:
        return
    total = sum(gradients.values())
    yield "all", "gradient", np.abs(total).mean()
    yield "all", "relative", _over(np.abs(total).mean(), np.abs(weight).mean())
    norms = {loss: np.linalg.norm(gradient) for loss, gradient in gradients.items()}
    for loss, gradient in gradients.items():
        yield loss, "gradient", np.abs(gradient).mean()
    if len(gradients) > 1:
        for loss, norm in norms.items():
            yield loss, "share", _over(norm, sum(norms.values()))
        for one, other in combinations(gradients, 2):
            product = float((gradients[one] * gradients[other]).sum())
            yield f"{one} & {other}", "cosine", _over(product, norms[one] * norms[other])


def _over(value, whole):
    return value / whole if whole else 0.0
