"""Replay: repeated passes, as CUDA graphs.

A pass over the same layers and shapes launches the same kernels on the same memory. So its third
run is recorded, and from then on one call launches them all: Python's work between two kernels no
longer costs time. This is invisible from outside: before a replay, values that others have put into
blobs are moved to where the recorded kernels read them; afterwards every blob and layer holds what
the pass would have left. A pass that cannot be recorded, or whose surroundings have changed, runs
normally.
"""

from functools import partial

from caffe_plain.errors import CaffeError

from .. import device
from ..blob import show
from ..layer import TensorLayer
from .attributes import Attributes
from .recording import Recording, WrongDeviceError

_RUNS_BEFORE = 2  # the first compiles, the second looks for the fastest algorithms
_BYTES_BETWEEN_CUTS = 4 << 20  # of gradients: what a message to other processes is worth


class Passes:
    """The passes over one net's `nodes`; `last` is what its layers' states come from, if known."""

    def __init__(self, nodes):
        self.last = None
        self._learning = {node for node in nodes if node.needs_backward}
        self._forward = {}

    def forward(self, key, found, run):
        """run(found), replayed from its third time on, except the layers that bring the batch.

        found: pairs that begin with a Unit.
        """
        self.last = None
        fed = next((i for i, (unit, *_) in enumerate(found) if unit.can_replay()), len(found))
        loss = run(found[:fed])
        if fed == len(found):
            return loss
        if key not in self._forward:
            self._forward[key] = _Forward([unit for unit, *_ in found[fed:]], self._learning)
        forward = self._forward[key]
        loss = loss + forward(lambda _: run(found[fed:]))
        if forward.is_recorded:
            forward.show()
        self.last = forward
        return loss

    def backward(self, key, params, run, on_gradients=None):
        """run(on_gradients), which follows the last forward pass.

        params: blobs whose diffs it adds to. on_gradients(blobs): called, as the pass goes on, with
        parameters whose diffs are final, if it is given.
        """
        if self.last is None or not self.last.is_followed():
            with device.searching(self.last is not None and self.last.times > 1):
                run(on_gradients)
            return

        def in_parts(cut):
            if cut is None or on_gradients is None:
                run(on_gradients)
            else:
                gathering = _Gathering(cut, on_gradients)
                run(gathering)
                gathering.finish()

        self.last.backward_pass((key, on_gradients is None), params)(in_parts)


class _Gathering:
    """Takes parameters whose diffs are final; tells of them a few MB at a time."""

    def __init__(self, cut, tell):
        self._cut, self._tell = cut, tell
        self._blobs, self._bytes = [], 0

    def __call__(self, blobs):
        self._blobs += blobs
        self._bytes += sum(blob.count * blob.dtype.itemsize for blob in blobs)
        if self._bytes >= _BYTES_BETWEEN_CUTS:
            self.finish()

    def finish(self):
        """Tell of those that are left."""
        if self._blobs:
            diffs = [(blob, "diff", blob.store("diff").peek()) for blob in self._blobs]
            self._cut(partial(self._tell_of, diffs))
            self._blobs, self._bytes = [], 0

    def _tell_of(self, diffs):
        _put(diffs)
        self._tell([blob for blob, *_ in diffs])


def _put(values):
    """Let blobs hold tensors: (blob, "data" or "diff", tensor or None for zero)."""
    for blob, what, tensor in values:
        blob.store(what).put(tensor)


def _with_owners(reads):
    """(blob, what, tensor, whether no other blob's values lie in the tensor's memory) of each."""
    stores = {}
    for blob, what, tensor in reads:
        stores.setdefault(_memory(tensor), set()).add(blob.store(what))
    return [
        (blob, what, tensor, not tensor.numel() or len(stores[_memory(tensor)]) == 1)
        for blob, what, tensor in reads
    ]


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()


class _Pass:
    """One pass; subclasses know what it reads and what it leaves."""

    def __init__(self, units):
        self.units = units
        self.nodes = [node for unit in units for node in unit.all_nodes]
        self.layers = [node.layer for node in self.nodes]
        self.params = list(dict.fromkeys(blob for layer in self.layers for blob in layer.blobs))
        self.blobs = list(
            dict.fromkeys(blob for node in self.nodes for blob in [*node.bottoms, *node.tops])
        )
        self.forget()

    def forget(self):
        """Return to the state before the first run, and free what the recording took."""
        self.times, self._recording = 0, None
        self._reads = self._leaves = self._copies = self._changeable = ()

    @property
    def is_recorded(self):
        return self._recording is not None

    def __call__(self, run):
        """run(cut), or what has been recorded of it; see Recording for `cut`."""
        if self.is_recorded and not self._can_replay():
            self.forget()
        if not self.is_recorded and not self._record(run):
            self.times += 1
            with device.searching(self.times > 1):
                return run(None)
        self._recording.replay()
        _put(self._leaves)
        return self._recording.result

    def _record(self, run):
        """Whether the pass has now been recorded."""
        if self.times < _RUNS_BEFORE or not all(unit.can_replay() for unit in self.units):
            return False
        reads, leaves = self.reads(), self.leaves()
        before = [(blob, what, blob.store(what).peek()) for blob, what in reads]
        self._reads = _with_owners(
            [(blob, what, blob.store(what).get(blob)) for blob, what in reads]
        )
        self._copies = [
            (blob, copy) for blob in self.params if (copy := blob.kept_copy()) is not None
        ]
        self._free(leaves, reads)
        try:
            self._recording = self.recorded(run)
        except WrongDeviceError:
            raise
        except (RuntimeError, CaffeError):  # something that only works outside a graph
            self.forget()
            self._free(leaves, reads)
            _put(before)
            for blob, what in [*reads, *leaves]:
                blob.store(what).forget_copies()
            self.times = float("-inf")
            return False
        self._leaves = [(blob, what, blob.store(what).peek()) for blob, what in leaves]
        self._changeable = [unit for unit in self.units if unit.asks_each_time]
        return True

    @staticmethod
    def _free(leaves, reads):
        """Drop what the last run left: a recording allocates memory for the same."""
        kept = {blob.store(what) for blob, what in reads}
        for blob, what in leaves:
            if blob.store(what) not in kept:
                blob.store(what).put(None)

    def recorded(self, run):
        return Recording(run)

    def _can_replay(self):
        """Whether all that the pass reads is where it was; moves it there if needed."""
        if not self._recording.is_valid or not all(unit.can_replay() for unit in self._changeable):
            return False
        for blob, what, tensor, alone in self._reads:
            store = blob.store(what)
            if not (store.settle(blob, tensor) if alone else store.get(blob) is tensor):
                return False
        for blob, copy in self._copies:
            blob.settle_copy(copy)
        return True


class _Forward(_Pass):
    """A forward pass, with the backward passes that may follow it."""

    def __init__(self, units, learning):
        super().__init__(units)
        self._losses = [node for node in self.nodes if any(node.loss_weights)]
        self.tops = list(dict.fromkeys(blob for node in self.nodes for blob in node.tops))
        self._has_all_that_learn = learning.issubset(self.nodes)
        self._starts = _not_written(node for unit in units for node in unit.nodes)

    def forget(self):
        super().forget()
        self.backward, self._states, self._stores = {}, (), ()

    def reads(self):
        """What comes from outside, copied for the pass, and the parameters."""
        fed, made = {}, set()
        for node in self.nodes:
            fed.update((blob, None) for blob in node.bottoms if blob not in made)
            made.update(node.tops)
        for blob in fed:
            blob.store("data").settle(blob, blob.tensor.clone())
        return [(blob, "data") for blob in [*fed, *self.params]]

    def leaves(self):
        return [(blob, "data") for blob in self.tops]

    def recorded(self, run):
        for node in self.nodes:
            node.inputs = None
        attributes = Attributes([part for unit in self.units for part in unit.parts()])
        try:
            recording = super().recorded(run)
        except (RuntimeError, CaffeError):
            attributes.restore()
            raise
        self._states = attributes.changed()
        self._settings = self._now()
        self._stores = self._values()
        self._hidden = [blob.hidden for blob in self.tops]
        self._fused = [unit.ran_fused for unit in self.units]
        self._watching = [
            layer
            for layer in self.layers
            if type(layer).after_replay is not TensorLayer.after_replay
        ]
        return recording

    def _now(self):
        """What a recording holds for good: another one must be made when it changes."""
        return (
            device.precision(),
            device.ordinal,
            [node.shapes for node in self.nodes],
            [blob.shape for blob in self.blobs],
            [list(node.loss_weights) for node in self._losses],
        )

    def _can_replay(self):
        return (
            self._values() == self._stores
            and self._now() == self._settings
            and super()._can_replay()
        )

    def _values(self):
        """Where the blobs' values are: which of them share it is the work of layers."""
        return [blob.store("data") for blob in self.blobs]

    def show(self):
        """Put layers and blobs into the state that the recording left."""
        for part, state in self._states:
            vars(part).update(state)
        for blob, hidden in zip(self.tops, self._hidden, strict=True):
            blob.hidden = hidden
        for unit, fused in zip(self.units, self._fused, strict=True):
            unit.ran_fused = fused
        show(self.params, "data")  # the running statistics
        for layer in self._watching:
            layer.after_replay()

    def is_followed(self):
        """Whether a recorded backward can follow: all it needs is as this pass has left it."""
        return (
            self.is_recorded
            and self._has_all_that_learn
            and self._fused == [unit.ran_fused for unit in self.units]
            and self._settings == self._now()
            and all(
                vars(part).get(name) is value
                for part, state in self._states
                for name, value in state.items()
            )
        )

    def backward_pass(self, key, params):
        """The backward pass of that key, for what now is zero and for what now is to be learnt."""
        key = (
            key,
            tuple(blob.diff_is_zero for blob in [*self._starts, *params]),
            tuple(tuple(layer.param_propagate_down) for layer in self.layers),
            tuple(tuple(node.propagate_down) for node in self.nodes),
        )
        if key not in self.backward:
            self.backward[key] = _Backward(self, self._starts, params)
        return self.backward[key]


class _Backward(_Pass):
    """A backward pass over what a recorded forward pass left."""

    def __init__(self, forward, starts, params):
        super().__init__(forward.units)
        self._starts, self._learnable = starts, params

    def reads(self):
        """Values and parameters; the diffs from outside, and the sums that parameters' join."""
        diffs = [blob for blob in [*self._starts, *self._learnable] if not blob.diff_is_zero]
        values = [blob for blob in [*self.blobs, *self.params] if not blob.hidden]
        return [(blob, "data") for blob in values] + [(blob, "diff") for blob in diffs]

    def leaves(self):
        return [(blob, "diff") for blob in [*self.blobs, *self._learnable]]


def _not_written(nodes):
    """Blobs whose diffs no layer above computes, the losses among them: they come from outside."""
    found = {}
    for node in nodes:
        for blob, propagate in zip(node.bottoms, node.propagate_down, strict=True):
            if propagate and node.needs_backward:
                found.pop(blob, None)
            else:
                found[blob] = None
        found.update(dict.fromkeys(node.tops))
    return list(found)
