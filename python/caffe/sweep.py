"""Running a net: forward, backward over a range, and several backward flows in one sweep."""

from contextlib import contextmanager

import torch

from .build import put_loss_weight, reshape
from .catalogue.utility import add_all
from .errors import CaffeError, ShapeError
from .fusion import units


class Sweep:
    """Runs a net's nodes, as fused Units where a range takes in a whole unit.

    `callbacks` are {"before_forward": [f(layer index), ...], ...}; while there are any, every
    layer runs by itself. `keep_blobs`: see fusion. `keep_diffs`: a blob's diff stays after
    backward, as in Caffe; without, it is freed as soon as the layer that it came to has used it.
    """

    def __init__(self, nodes, callbacks, keep_blobs=True, keep_diffs=True):
        self.units, self.callbacks = units(nodes, keep_blobs), callbacks
        self.keep_blobs, self.keep_diffs = keep_blobs, keep_diffs
        self._plans, self._ranges = {}, {}

    def forward(self, start, end):
        """Run layers `start` to `end`; return the weighted sum of their losses."""
        loss = 0.0
        for unit, pairs in self._units(start, end):
            unit.ran_fused = self._runs_fused(unit, pairs)
            for index, node in [(unit.index, unit.fused)] if unit.ran_fused else pairs:
                self._tell("before_forward", index)
                _forward_node(node)
                loss = loss + _weighted_loss(node)
                self._tell("after_forward", index)
            if unit.ran_fused:
                unit.hide()
        return loss

    def backward(self, start, end):
        """Run layers `end` down to `start` backward (Caffe's BackwardFromTo)."""
        for unit, pairs in reversed(self._units(start, end)):
            if not (unit.ran_fused and self._runs_fused(unit, pairs)):
                unit.spread()
            for index, node in [(unit.index, unit.fused)] if unit.ran_fused else reversed(pairs):
                if node.needs_backward:
                    self._tell("before_backward", index)
                    _backward_node(node)
                    self._tell("after_backward", index)
                    if not self.keep_diffs:
                        _drop_diffs(node)

    def backward_flows(self, flows):
        """Several flows in one sweep; see Net.backward_flows."""
        key = tuple(tuple(tuple(span) for span in ranges) for ranges in flows)
        if not all(unit.ran_fused for unit in self.units if unit.fused):
            for unit in self.units:
                unit.spread()
            key = (key, "one by one")
        if key not in self._plans:
            self._plans[key] = FlowPlan(self.units, flows)
        self._plans[key].run(self.keep_diffs)

    def _units(self, start, end):
        """(unit, its (index, node) pairs within the range) of the units that the range touches."""
        if (start, end) not in self._ranges:
            within = [(unit, [pair for pair in unit.indexed() if start <= pair[0] <= end])
                      for unit in self.units]
            self._ranges[start, end] = [(unit, pairs) for unit, pairs in within if pairs]
        return self._ranges[start, end]

    def _runs_fused(self, unit, pairs):
        return (unit.fused is not None and len(pairs) == len(unit.nodes)
                and not any(self.callbacks.values()))

    def _tell(self, event, index):
        for callback in self.callbacks[event]:
            callback(index)


def _forward_node(node):
    layer = node.layer
    if node.shapes != [blob.shape for blob in node.bottoms]:
        reshape(node)
    bottoms = tuple(blob.tensor for blob in node.bottoms)
    with _named_errors(node, "forward"):
        tops = layer.forward(*bottoms)
    if isinstance(tops, torch.Tensor):
        tops = (tops,)
    if node.in_place and layer.reads_bottom:
        node.inputs = bottoms
    for blob, tensor in zip(node.tops, tops, strict=True):
        blob.tensor = tensor


@contextmanager
def _named_errors(node, what):
    """Make what PyTorch says about a layer an error of this package that names the layer."""
    try:
        yield
    except CaffeError:
        raise
    except (RuntimeError, IndexError, MemoryError) as error:
        raise ShapeError(f"layer {node.name!r} ({node.layer.type}) failed in {what} on bottoms "
                         f"{[blob.shape for blob in node.bottoms]}: {error}") from error


def _weighted_loss(node):
    loss = 0.0
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if weight:
            if blob.diff_is_zero:  # the top has got another shape
                put_loss_weight(blob, weight)
            loss = loss + weight * blob.tensor.sum()
    return loss


def _backward_node(node):
    diffs = [blob.diff_tensor for blob in node.tops]
    with _named_errors(node, "backward"):
        found = _backward_both(node, diffs, node.propagate_down)
    for blob, diff in zip(node.bottoms, found, strict=True):
        if diff is not None:
            blob.diff_tensor = diff


def _drop_diffs(node):
    """Free the diffs that came to a node, but for losses' weights and what it handed on itself."""
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if not weight and blob not in node.bottoms:
            blob.clear_diff()


def _values(node):
    """The bottoms and tops that backward reads."""
    bottoms = node.inputs if node.inputs is not None else [b.tensor for b in node.bottoms]
    return bottoms, [blob.tensor for blob in node.tops]


def _backward_both(node, diffs, wanted):
    """Parameter diffs, and the diffs of the wanted bottoms."""
    layer = node.layer
    _refuse(node, wanted)
    if not any(layer.param_propagate_down):
        return _backward_data(node, diffs, wanted)
    if any(wanted):
        return layer.backward_both(diffs, *_values(node), wanted)
    layer.backward_params(diffs, *_values(node))
    return _backward_data(node, diffs, wanted)


def _refuse(node, wanted):
    """Say so where backward must pass a gradient to labels and the like."""
    for index in node.refused:
        if wanted[index]:
            raise node.layer.error(
                f"no gradient can be passed to bottom {index}, {node.bottom_names[index]!r}, but "
                "a layer below it learns; say propagate_down: false for that bottom here")


def _backward_data(node, diffs, wanted):
    _refuse(node, wanted)
    if not any(wanted) and not node.layer.backward_is_whole:
        return [None] * len(node.bottoms)
    return node.layer.backward(diffs, *_values(node), wanted)


class FlowPlan:
    """Several backward flows planned as one sweep; see Net.backward_flows.

    Backward is linear in the diffs. So where flows meet, their diffs are summed once for the
    parameters, and flows that have the same layers left to go become one.
    """

    def __init__(self, units, flows):
        layers = [frozenset(i for start, end in ranges for i in range(end, start + 1))
                  for ranges in flows]
        self.steps = []
        pairs, self.cut = _nodes_for(units, layers)
        live = list(range(len(flows)))
        for index, node in reversed(pairs):
            merges, ways = [], {}
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

    def run(self, keep_diffs):
        """One sweep with the diffs that the losses' tops hold (their loss weights)."""
        for unit in self.cut:
            unit.spread()
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
            with _named_errors(node, "backward"):
                found = list(_backward_arrived(node, arrived))
            for flow, blob, diff in found:
                held[flow, blob] = diff
                if keep_diffs:
                    blob.diff_tensor = diff


def _nodes_for(units, layers):
    """[(index of the last layer, node)], and the fused Units that a flow cuts.

    A unit runs as one where every flow takes in all of it or nothing.
    """
    found, cut = [], []
    for unit in units:
        pairs = unit.indexed()
        inside = [{index for index, _ in pairs} & flow for flow in layers]
        if unit.ran_fused and all(len(part) in (0, len(pairs)) for part in inside):
            found.append((pairs[-1][0], unit.fused))
        else:
            found.extend(pairs)
            cut.append(unit)
    return found, cut


def _backward_arrived(node, arrived):
    """Run one node for the flows that arrived; yield (flow, bottom, its diff)."""
    alone = len(arrived) == 1
    if len(arrived) > 1 and any(node.layer.param_propagate_down):
        node.layer.backward_params(_sum_over_flows([diffs for _, diffs, _ in arrived]),
                                   *_values(node))
    for flow, diffs, wanted in arrived:
        found = (_backward_both if alone else _backward_data)(node, diffs, wanted)
        for blob, diff in zip(node.bottoms, found, strict=True):
            if diff is not None:
                yield flow, blob, diff


def _sum_over_flows(all_diffs):
    """For each top, the sum of the diffs with which the flows arrived; None if none did."""
    return [add_all(diffs) if any(diff is not None for diff in diffs) else None
            for diffs in zip(*all_diffs, strict=True)]
