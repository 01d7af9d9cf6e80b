"""CUDA graphs on the CPU: records the operators of PyTorch that a function runs, repeats them.

Like a graph, a repeat runs no Python: only the same operators on the same tensors, into the memory
that their results had when they were recorded. Recording changes nothing that existed before, and
leaves results undefined, whether or not it comes to its end.
"""

from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caffe import device
from caffe.kernels import native
from caffe.run import recording, replay, sweep


class Graph(TorchDispatchMode):
    """The CPU's counterpart of caffe.run.recording.Graph."""

    running = False  # whether any is being made

    def __init__(self, generator, pool):
        super().__init__()
        self._calls, self._overwritten = [], []

    new_pool = staticmethod(object)
    is_empty = property(lambda self: not self._calls)

    def __enter__(self):
        Graph.running = True
        device.generator()  # so that it has a state
        self._random = device.random_state()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        Graph.running = False
        device.set_random_state(self._random)
        for x, before in reversed(self._overwritten):
            x.copy_(before)
        for _, args, _, results in self._calls:
            for result in results:
                if not any(_shares(result, x) for x in tree_leaves(args)):
                    result.fill_(_POISON if result.is_floating_point() else 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        written = [
            value
            for value, argument in zip(args, function._schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        self._overwritten += [(x, x.clone()) for x in tree_leaves(written)]
        found = function(*args, **(kwargs or {}))
        results = [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]
        self._calls.append((function, args, kwargs or {}, results))
        return found

    def replay(self):
        """Like a graph, this changes tensors without counting up their versions."""
        involved = {
            id(x): x
            for _, args, kwargs, results in self._calls
            for x in [*tree_leaves((args, kwargs)), *results]
            if isinstance(x, torch.Tensor)
        }
        with torch.autograd._unsafe_preserve_version_counter(tuple(involved.values())):
            self._run()

    def _run(self):
        for function, args, kwargs, results in self._calls:
            found = [
                x for x in tree_leaves(function(*args, **kwargs)) if isinstance(x, torch.Tensor)
            ]
            for result, again in zip(results, found, strict=True):
                if result.data_ptr() != again.data_ptr():
                    result.copy_(again)


_POISON = float("nan")


def _shares(result, x):
    return isinstance(x, torch.Tensor) and (
        result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    )


@contextmanager
def ordinary():
    """A context in which every pass runs normally, by the same operators as in recordings."""
    with mock.patch.object(sweep.Sweep, "_replays", False), _operators_of_pytorch():
        yield []


def _operators_of_pytorch():
    """The graphs here know of no others."""
    if device.ordinal >= 0:
        return nullcontext()
    return mock.patch.object(native, "library", lambda: None)


@contextmanager
def recording_from(runs):
    """A context in which passes are recorded after that many ordinary runs: on a GPU as CUDA
    graphs, elsewhere as these. Yields the list of the recordings that have been made."""
    made = []

    class Counted(recording.Recording):
        def __init__(self, run):
            super().__init__(run)
            made.append(self)

    with (
        mock.patch.object(replay, "Recording", Counted),
        mock.patch.object(replay, "_RUNS_BEFORE", runs),
        mock.patch.object(sweep.Sweep, "_replays", property(lambda self: not self._alone)),
    ):
        if device.ordinal >= 0:
            yield made
            return
        with (
            _operators_of_pytorch(),
            mock.patch.object(recording, "Graph", Graph),
            mock.patch.object(device, "is_recording", lambda: Graph.running),
        ):
            yield made
