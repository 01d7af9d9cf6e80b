"""Replay: repeated passes, as CUDA graphs.

A pass over the same layers and shapes launches the same kernels on the same memory. So its third
run is recorded, and from then on one call launches them all: Python's work between two kernels no
longer costs time. This is invisible from outside: before a replay, values that others have put into
blobs are moved to where the recorded kernels read them; afterwards every blob and layer holds what
the pass would have left. A pass that cannot be recorded runs normally.
"""

import warnings

import torch

from caffe_plain.errors import CaffeError

from .. import device
from ..blob import show
from ..layer import TensorLayer

_RUNS_BEFORE = 2  # the first compiles, the second looks for the fastest algorithms


class Recording:
    """The kernels that a function launches, to be launched again."""

    def __init__(self, run):
        self._generator = device.generator("cuda")
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._generator)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self.result = run()

    @property
    def is_valid(self):
        """Whether its random numbers are still those of the seed in force."""
        return self._generator is device.generator("cuda")

    def replay(self):
        self._graph.replay()


class Passes:
    """The passes over one net; `last` is the forward pass that its layers' states come from."""

    def __init__(self):
        self.last = None
        self._forward = {}

    def forward(self, key, found, run):
        """run(found), replayed from its third time on, except the layers that bring the batch.

        found: pairs that begin with a Unit.
        """
        fed = next((i for i, (unit, *_) in enumerate(found) if unit.can_replay()), len(found))
        loss = run(found[:fed])
        if fed == len(found):
            return loss
        key = (key, device.precision(), device.ordinal)
        if key not in self._forward:
            units = [unit for unit, *_ in found]
            self._forward[key] = _Forward(units[fed:], units[:fed])
        forward, last, self.last = self._forward[key], self.last, None
        loss = loss + forward(lambda: run(found[fed:]))
        if forward.is_recorded:
            forward.show(other_states=last is not forward)
        self.last = forward
        return loss

    def backward(self, key, params, run):
        """run(), which follows the last forward pass; `params`: blobs whose diffs it adds to."""
        if self.last is None or not self.last.is_recorded or self.last.learns_before:
            with device.searching(self.last is not None and self.last.times > 1):
                run()
            return
        key = (key, tuple(blob.diff_is_zero for blob in params))
        if key not in self.last.backward:
            self.last.backward[key] = _Backward(self.last, params)
        self.last.backward[key](run)


class _Pass:
    """One pass; subclasses know what it reads and what it leaves."""

    def __init__(self, units):
        self.units = units
        self.nodes = [node for unit in units for node in unit.all_nodes]
        self.layers = [node.layer for node in self.nodes]
        self.params = list(dict.fromkeys(blob for layer in self.layers for blob in layer.blobs))
        self.forget()

    def forget(self):
        """Return to the state before the first run."""
        self.times, self._recording = 0, None

    @property
    def is_recorded(self):
        return self._recording is not None

    def __call__(self, run):
        if self.is_recorded and not self._can_replay():
            self.forget()
        if not self.is_recorded and not self._record(run):
            self.times += 1
            with device.searching(self.times > 1):
                return run()
        self._recording.replay()
        for store, tensor in self._leaves:
            store.put(tensor)
        return self._recording.result

    def _record(self, run):
        """Whether the pass has now been recorded."""
        if self.times < _RUNS_BEFORE or not all(unit.can_replay() for unit in self.units):
            return False
        before = [(store, store.peek()) for store in self.leaves()]
        self._reads = [(blob, what, blob.store(what).get(blob)) for blob, what in self.reads()]
        self._copies = [
            (blob, copy) for blob in self.params if (copy := blob.kept_copy()) is not None
        ]
        try:
            self._recording = self.recorded(run)
        except (RuntimeError, CaffeError):  # something that only works outside a graph
            for store, tensor in before:
                store.put(tensor)
            self.times = float("-inf")
            return False
        self._leaves = [(store, store.peek()) for store in self.leaves()]
        self._changeable = [unit for unit in self.units if unit.asks_each_time]
        return True

    def recorded(self, run):
        return Recording(run)

    def _can_replay(self):
        """Whether all that the pass reads is where it was; moves it there if needed."""
        if not self._recording.is_valid or not all(unit.can_replay() for unit in self._changeable):
            return False
        if not all(blob.store(what).settle(blob, tensor) for blob, what, tensor in self._reads):
            return False
        for blob, copy in self._copies:
            blob.settle_copy(copy)
        return True


class _Forward(_Pass):
    """A forward pass, with the backward passes that may follow it."""

    def __init__(self, units, before):
        self.tops = list(
            dict.fromkeys(blob for unit in units for node in unit.all_nodes for blob in node.tops)
        )
        self.learns_before = any(node.needs_backward for unit in before for node in unit.nodes)
        super().__init__(units)

    def forget(self):
        super().forget()
        self.backward = {}

    def reads(self):
        """What comes from outside, copied for the pass, and the parameters."""
        fed, made = {}, set()
        for node in self.nodes:
            fed.update((blob, None) for blob in node.bottoms if blob not in made)
            made.update(node.tops)
        for blob in fed:
            blob.tensor = blob.tensor.clone()
        return [(blob, "data") for blob in [*fed, *self.params]]

    def leaves(self):
        return [blob.store("data") for blob in self.tops]

    def recorded(self, run):
        self._drop_values()
        parts = [part for unit in self.units for part in unit.parts()]
        before = [dict(vars(part)) for part in parts]
        recording = super().recorded(run)
        self._states = [
            (
                part,
                {
                    name: value
                    for name, value in vars(part).items()
                    if name not in state or value is not state[name]
                },
            )
            for part, state in zip(parts, before, strict=True)
        ]
        self._shapes = [node.shapes for node in self.nodes]
        self._hidden = [blob for blob in self.tops if blob.hidden]
        self._fused = [unit for unit in self.units if unit.ran_fused]
        self._watching = [
            layer
            for layer in self.layers
            if type(layer).after_replay is not TensorLayer.after_replay
        ]
        return recording

    def _drop_values(self):
        """Free what the last run left, before the recording allocates memory for the same."""
        for node in self.nodes:
            node.inputs = None
        read = {blob.store(what) for blob, what, _ in self._reads}
        for store in self.leaves():
            if store not in read:
                store.put(None)

    def _can_replay(self):
        same = all(
            node.shapes == shapes for node, shapes in zip(self.nodes, self._shapes, strict=True)
        )
        return same and super()._can_replay()

    def show(self, other_states):
        """Put layers and blobs into the state that the recording left.

        other_states: whether another pass than this one was the last.
        """
        if other_states:
            for part, state in self._states:
                vars(part).update(state)
            for blob in self._hidden:
                blob.hidden = True
        for unit in self._fused:
            unit.ran_fused = True
        show(self.params)  # the running statistics
        for layer in self._watching:
            layer.after_replay()


class _Backward(_Pass):
    """A backward pass over what a recorded forward pass left."""

    def __init__(self, forward, params):
        self._learnable = params
        self._values = [blob for blob in forward.tops if not blob.hidden]
        self._blobs = dict.fromkeys(
            blob for node in forward.nodes for blob in [*node.tops, *node.bottoms]
        )
        self._starts = self._without_consumer(forward.nodes)
        super().__init__(forward.units)

    @staticmethod
    def _without_consumer(nodes):
        """The losses, and the blobs that no later layer reads: their diffs come from outside."""
        losses, others = {}, {}
        for node in nodes:
            for blob in node.bottoms:
                others.pop(blob, None)
            for blob, weight in zip(node.tops, node.loss_weights, strict=True):
                (losses if weight else others)[blob] = None
        return [*losses, *others]

    def reads(self):
        """Values and parameters; the diffs of losses, and the sums that parameters' diffs join."""
        diffs = [blob for blob in [*self._starts, *self._learnable] if not blob.diff_is_zero]
        return [(blob, "data") for blob in [*self._values, *self.params]] + [
            (blob, "diff") for blob in diffs
        ]

    def leaves(self):
        return [blob.store("diff") for blob in [*self._blobs, *self._learnable]]
