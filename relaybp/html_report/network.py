"""The network of a run: its trunk, its branches, and which loss trains which layers."""

from __future__ import annotations

import functools
from math import prod
from typing import Any

from google.protobuf import text_format

from .. import flows, relay_file
from ..planning import cost, table
from ..planning.blueprint import graph_of, without_branches
from ..planning.trunk import Trunk, Unit, has_weights, is_spatial
from .source import Source

QUIET = ("Split", "Input")  # types that a reader of the net need not see


def network(source: Source) -> dict[str, Any]:
    """See `Plan.facts`. The net does not change while it trains, so it is planned once."""
    is_standard, net = source.is_standard, source.net
    if is_standard:
        net = without_branches(source.engine.pb, net)
    relay = text_format.MessageToString(source.relay)
    return _planned(source.engine.caffe, str(net), relay, source.size)


@functools.lru_cache(maxsize=64)
def _planned(
    caffe: Any, net_text: str, relay_text: str, size: tuple[int, ...] | None
) -> dict[str, Any]:
    net = text_format.Parse(net_text, caffe.proto.caffe_pb2.NetParameter())
    relay = text_format.Parse(relay_text, relay_file.RelayParameter())
    graph = graph_of(caffe, net, list(size) if size else None)
    found = flows.plan(graph.net, relay, net)
    return Plan(Trunk(graph), found, relay_file.schedule_name(relay)).facts()


class Plan:
    """A net with its flows, as the page shows it."""

    def __init__(self, trunk: Trunk, planned: list[flows.Flow], schedule: str) -> None:
        self.trunk, self.graph, self.flows, self.schedule = trunk, trunk.graph, planned, schedule
        self.work = cost.multiply_adds(trunk.graph)

    def facts(self) -> dict[str, Any]:
        """{"units", "stages", "flows", "branches", "steps"}; units are counted from the data."""
        steps = table.steps(self.graph, self.flows, self.schedule)
        standard = cost.total(steps[0][1])
        return {
            "units": [self.unit(unit) for unit in self.trunk.units],
            "stages": [[stage[0].index, stage[-1].index] for stage in self.trunk.stages],
            "flows": [self.flow(flow) for flow in self.flows],
            "branches": [
                self.branch(flow)
                for flow in self.flows
                if self.graph.index[flow.loss] != self.graph.final
            ],
            "steps": [[name, cost.total(step) / standard] for name, step in steps],
        }

    def unit(self, unit: Unit) -> dict[str, Any]:
        """A unit of the trunk with its layers; side: of its map, 0 for a vector."""
        trains = [flow.loss for flow in self.flows if unit in table.span(self.trunk, flow)]
        return {
            "name": unit.name,
            "side": unit.shape[2] if is_spatial(unit) else 0,
            "has_weights": has_weights(self.graph, unit),
            "losses": trains,
            "layers": self.layers(unit.layers),
        }

    def layers(self, indices: Any) -> list[dict[str, Any]]:
        """Rows of layers: name, type, shape (C, H, W), parameters, multiply-adds, losses."""
        graph = self.graph
        return [
            {
                "name": graph.names[index],
                "type": graph.types[index],
                "shape": list(graph.net.blobs[graph.tops[index][0]].shape)[1:],
                "parameters": sum(prod(blob.shape) for blob in graph.layers[index].blobs)
                if cost.learns(graph, index)
                else 0,
                "multiply_adds": self.work[index],
                "losses": [flow.loss for flow in self.flows if index in flow.layers]
                if cost.learns(graph, index)
                else [],
            }
            for index in sorted(indices)
            if graph.types[index] not in QUIET and graph.tops[index]
        ]

    def flow(self, flow: flows.Flow) -> dict[str, Any]:
        """A loss, and the first and last unit that it trains; None: only its own branch."""
        units = table.span(self.trunk, flow)
        return {
            "loss": flow.loss,
            "weight": float(flow.weight),
            "first": units[0].index if units else None,
            "last": units[-1].index if units else None,
        }

    def branch(self, flow: flows.Flow) -> dict[str, Any]:
        """The layers of an auxiliary loss, and the unit on which they stand."""
        index = self.graph.index[flow.loss]
        return {
            "loss": flow.loss,
            "unit": self.trunk.below_branch(index).index,
            "layers": self.layers(self.graph.head(index)),
        }
