"""Running nodes: forward, backward over a range, and several backward flows in one sweep."""

import torch

from .build import reshape
from .catalogue.utility import add_all
from .errors import CaffeError, ShapeError


def forward(indexed_nodes, callbacks):
    """Run (index, node) pairs in order; return the weighted sum of their losses."""
    loss = 0.0
    for index, node in indexed_nodes:
        for callback in callbacks["before_forward"]:
            callback(index)
        _forward_node(node)
        loss = loss + _weighted_loss(node)
        for callback in callbacks["after_forward"]:
            callback(index)
    return loss


def _forward_node(node):
    layer = node.layer
    if node.shapes != [blob.shape for blob in node.bottoms]:
        reshape(node)
    bottoms = tuple(blob.tensor for blob in node.bottoms)
    try:
        tops = layer.forward(*bottoms)
    except (RuntimeError, IndexError) as error:
        if isinstance(error, CaffeError):
            raise
        raise ShapeError(f"layer {node.name!r} ({layer.type}) failed in forward on bottoms "
                         f"{[tuple(x.shape) for x in bottoms]}: {error}") from error
    if isinstance(tops, torch.Tensor):
        tops = (tops,)
    if node.in_place and layer.reads_bottom:
        node.inputs = bottoms
    for blob, tensor in zip(node.tops, tops, strict=True):
        blob.tensor = tensor


def _weighted_loss(node):
    loss = 0.0
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if weight:
            loss = loss + weight * blob.tensor.sum()
    return loss


def backward(indexed_nodes, callbacks):
    """Caffe's BackwardFromTo over (index, node) pairs, given in forward order."""
    for index, node in reversed(indexed_nodes):
        if not node.needs_backward:
            continue
        for callback in callbacks["before_backward"]:
            callback(index)
        diffs = [blob.diff_tensor for blob in node.tops]
        _backward_params(node, diffs)
        for blob, diff in zip(node.bottoms, _backward_data(node, diffs, node.propagate_down),
                              strict=True):
            if diff is not None:
                blob.diff_tensor = diff
        for callback in callbacks["after_backward"]:
            callback(index)


def _values(node):
    """The bottoms and tops that backward reads."""
    bottoms = node.inputs if node.inputs is not None else [b.tensor for b in node.bottoms]
    return bottoms, [blob.tensor for blob in node.tops]


def _backward_params(node, diffs):
    if any(node.layer.param_propagate_down):
        node.layer.backward_params(diffs, *_values(node))


def _backward_data(node, diffs, wanted):
    if not any(wanted) and not node.layer.backward_is_whole:
        return [None] * len(node.bottoms)
    return node.layer.backward(diffs, *_values(node), wanted)


class FlowPlan:
    """Several backward flows planned as one sweep; see Net.backward_flows.

    Backward is linear in the diffs. So where flows meet, their diffs are summed once for the
    parameters, and flows that have the same layers left to go become one.
    """

    def __init__(self, nodes, flows):
        layers = [frozenset(i for start, end in ranges for i in range(end, start + 1))
                  for ranges in flows]
        self.steps = []
        live = list(range(len(flows)))
        for index in reversed(range(len(nodes))):
            node, merges, ways = nodes[index], [], {}
            for flow in live:
                rest = frozenset(i for i in layers[flow] if i <= index)
                if rest and rest in ways:
                    merges.append((flow, ways[rest]))
                elif rest:
                    ways[rest] = flow
            live = sorted(ways.values())
            passing = [
                (flow, [propagate and producer in layers[flow] for propagate, producer in
                        zip(node.propagate_down, node.producers, strict=True)])
                for flow in live if index in layers[flow] and node.needs_backward]
            if merges or passing:
                self.steps.append((node, merges, passing))

    def run(self):
        """One sweep with the diffs that the losses' tops hold (their loss weights)."""
        held = {}  # (flow, blob) -> diff on its way down
        for node, merges, passing in self.steps:
            for flow, into in merges:
                for key in [key for key in held if key[0] == flow]:
                    both = [held.get((into, key[1])), held.pop(key)]
                    held[into, key[1]] = add_all(both)
            arrived = []
            for flow, wanted in passing:
                diffs = [blob.diff_tensor if weight else held.pop((flow, blob), None)
                         for blob, weight in zip(node.tops, node.loss_weights, strict=True)]
                if any(diff is not None for diff in diffs):
                    arrived.append((flow, diffs, wanted))
            if arrived:
                _backward_params(node, _sum_over_flows([diffs for _, diffs, _ in arrived]))
            for flow, diffs, wanted in arrived:
                for blob, diff in zip(node.bottoms, _backward_data(node, diffs, wanted),
                                      strict=True):
                    if diff is not None:
                        held[flow, blob] = blob.diff_tensor = diff


def _sum_over_flows(all_diffs):
    """For each top, the sum of the diffs with which the flows arrived; None if none did."""
    return [add_all(diffs) if any(diff is not None for diff in diffs) else None
            for diffs in zip(*all_diffs, strict=True)]
