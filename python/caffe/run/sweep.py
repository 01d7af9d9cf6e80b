"""Running a net: forward, backward over a range, and several backward flows in one sweep."""

from .. import device
from ..graph.fusion import units
from . import running
from .flow_plan import FlowPlan
from .inference import Inference
from .replay import Passes


class Sweep:
    """Runs a net's nodes, as fused Units where a range includes a whole unit.

    `callbacks` are {"before_forward": [f(layer index), ...], ...}; if there are any, every layer
    runs by itself. `on_gradients`: see Net.after_gradients. `keep_blobs`: True, or the names of
    those that must keep their values; see fusion and inference. `keep_diffs`: blobs keep their
    diffs after backward, as in Caffe; otherwise each is freed as soon as the layer that it came to
    has used it.
    """

    def __init__(self, nodes, callbacks, on_gradients, keep_blobs=True, keep_diffs=True):
        self.units, self.callbacks = units(nodes, keep_blobs), callbacks
        self.on_gradients = on_gradients
        self.keep_blobs, self.keep_diffs = keep_blobs, keep_diffs
        self._last = len(nodes) - 1
        self._params = list(dict.fromkeys(blob for node in nodes for blob in node.layer.blobs))
        self._plans, self._ranges, self._passes = {}, {}, Passes(nodes)
        infers = keep_blobs is not True and not any(node.layer.training for node in nodes)
        self._inference = Inference(nodes, keep_blobs) if infers else None

    def forward(self, start, end):
        """Run layers `start` to `end`; return the weighted sum of their losses."""
        if self._infers and (start, end) == (0, self._last):
            return _total(self._inference.forward())
        self._leave_inference()
        found = self._units(start, end)
        if (
            self._replays
            and end == self._last
            and all(unit.is_whole(pairs) for unit, pairs in found)
        ):
            return self._passes.forward((start, end), found, self._forward)
        self._passes.last = None
        return self._forward(found)

    def _forward(self, found):
        losses, alone = [], self._alone
        for unit, pairs in found:
            if unit.fused is not None and unit.is_whole(pairs) and not alone:
                unit.ran_fused, pairs = True, [(unit.index, unit.fused)]
            elif unit.ran_fused:
                unit.spread()
            for index, node in pairs:
                if alone:
                    self._tell("before_forward", index)
                running.forward_node(node)
                if any(node.loss_weights):
                    losses += running.weighted_losses(node)
                if alone:
                    self._tell("after_forward", index)
            if unit.ran_fused:
                unit.finish()
        return _total(losses)

    def backward(self, start, end):
        """Run layers `end` down to `start` backward (Caffe's BackwardFromTo)."""
        self._leave_inference()
        found = self._units(start, end)
        whole = (start, end) == (0, self._last)
        if self._replays and whole:
            self._passes.backward(
                self.keep_diffs, self._params, lambda told: self._backward(found, told), self._told
            )
        else:
            self._backward(found, self._told if whole else None)

    def _backward(self, found, on_gradients=None):
        alone = self._alone
        for unit, pairs in reversed(found):
            if unit.ran_fused and (alone or not unit.is_whole(pairs)):
                unit.spread()
            for index, node in [(unit.index, unit.fused)] if unit.ran_fused else reversed(pairs):
                if alone:
                    self._tell("before_backward", index)
                if node.needs_backward:
                    running.backward_node(node)
                if alone:  # as in Caffe, whatever the layer needs
                    self._tell("after_backward", index)
                if node.needs_backward:
                    if on_gradients:
                        on_gradients(node.layer.blobs)
                    if not self.keep_diffs:
                        running.drop_diffs(node)

    def backward_flows(self, flows):
        """Several flows in one sweep; see Net.backward_flows."""
        self._leave_inference()
        key = tuple(tuple(tuple(span) for span in ranges) for ranges in flows)
        if not all(unit.ran_fused for unit in self.units if unit.fused):
            self.spread()
            key = (key, "one by one")
        if key not in self._plans:
            self._plans[key] = FlowPlan(self.units, flows)
        plan, keep_diffs = self._plans[key], self.keep_diffs
        if self._replays:
            self._passes.backward(
                (key, keep_diffs), self._params, lambda told: plan.run(keep_diffs, told), self._told
            )
        else:
            plan.run(keep_diffs, self._told)

    def spread(self):
        """Give each layer what it would have kept if nothing had run fused."""
        self._leave_inference()
        for unit in self.units:
            unit.spread()

    @property
    def _infers(self):
        """Whether a whole forward pass may skip what only a look inside or backward needs."""
        return self._inference is not None and device.ordinal < 0 and not self._alone

    def _leave_inference(self):
        if self._inference is not None:
            self._inference.spread()

    @property
    def _alone(self):
        """Whether every layer runs by itself because there are callbacks."""
        return any(self.callbacks.values())

    @property
    def _replays(self):
        """Whether whole passes are recorded and replayed."""
        return device.ordinal >= 0 and not self._alone

    def _units(self, start, end):
        """(unit, its (index, node) pairs within the range) of the units that the range touches."""
        if (start, end) not in self._ranges:
            within = [
                (unit, [pair for pair in unit.indexed() if start <= pair[0] <= end])
                for unit in self.units
            ]
            self._ranges[start, end] = [(unit, pairs) for unit, pairs in within if pairs]
        return self._ranges[start, end]

    def _tell(self, event, index):
        for callback in self.callbacks[event]:
            callback(index)

    @property
    def _told(self):
        """Who wants to know of final gradients: f(blobs), or None."""
        return self._tell_gradients if self.on_gradients else None

    def _tell_gradients(self, blobs):
        for callback in self.on_gradients:
            callback(blobs)


def _total(losses):
    return sum(losses[1:], losses[0]) if losses else 0.0
