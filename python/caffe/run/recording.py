"""Recording: what a function launches on a GPU, as CUDA graphs to be launched again."""

import contextlib
import warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from caffe_plain.errors import CaffeError

from .. import device

_aten = torch.ops.aten
_NEED_VALUES = {  # operators whose results the CPU must know before it can go on
    _aten._local_scalar_dense,
    _aten.equal,
    _aten.is_nonzero,
    _aten.masked_select,
    _aten.nonzero,
    _aten._unique2,
    _aten.unique_consecutive,
    _aten.unique_dim,
}
_COPIES = {_aten._to_copy, _aten.copy_}
_ALLOCATIONS = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty}


class WrongDeviceError(CaffeError):
    """What was to be recorded ran, but not on the GPU that records."""


class Recording:
    """The kernels that `run(cut)` launches, to be launched again.

    Nothing is computed while it is made. Where run calls cut(hook), each replay calls hook(),
    between the kernels before and those after it. Raises RuntimeError if the function waits for
    values, which only exist outside a recording; all is then as it was before, except that tensors
    which it has made hold anything.
    """

    def __init__(self, run):
        self._generator = device.generator("cuda")
        self._steps, self._pool = [], Graph.new_pool()
        with _Watch() as self._watch, contextlib.ExitStack() as self._open:
            self._begin()
            self.result = run(self._cut)
            self._end()

    @property
    def is_valid(self):
        """Whether its random numbers come from the generator in force."""
        return self._generator is device.generator("cuda")

    def replay(self):
        for step in self._steps:
            step()

    def _cut(self, hook):
        self._end()
        self._steps.append(hook)
        self._begin()

    def _begin(self):
        self._watch.launches = 0
        self._graph = Graph(self._generator, self._pool)
        self._open.enter_context(self._graph)

    def _end(self):
        self._open.close()
        launches = self._watch.launches
        if self._graph.is_empty and launches:
            raise WrongDeviceError(
                f"{launches} operators ran and none was recorded on {device.current()}: another "
                "device is PyTorch's current one; call caffe.set_device before set_mode_gpu"
            )
        if not self._graph.is_empty:
            self._steps.append(self._graph.replay)


class Graph:
    """A CUDA graph: a context that records, once, and `replay`.

    Leaving the context by an error leaves PyTorch ready for ordinary work: the stream in force, the
    allocator and the random generator as they were.
    """

    def __init__(self, generator, pool):
        self._random, self._pool = generator.get_state(), pool
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(generator)
        self.replay, self.is_empty = self._graph.replay, False

    @staticmethod
    def new_pool():
        """Memory for the graphs of one recording, which run in one order."""
        return torch.cuda.graph_pool_handle()

    def __enter__(self):
        self._stream = torch.cuda.current_stream()
        self._capture = torch.cuda.graph(
            self._graph, pool=self._pool, capture_error_mode="thread_local"
        )
        try:
            self._capture.__enter__()
        except RuntimeError:
            self._abandon()
            raise

    def __exit__(self, kind, error, trace):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self._capture.__exit__(kind, error, trace)
            except RuntimeError:
                self._abandon()
                if error is None:
                    raise
        self.is_empty = any("CUDA Graph is empty" in str(each.message) for each in caught)

    def _abandon(self):
        """After a capture that CUDA broke off: PyTorch has then undone none of its own part."""
        torch.cuda.set_stream(self._stream)
        with contextlib.suppress(RuntimeError):  # newer versions have
            torch._C._cuda_endAllocateToPool(device.ordinal, self._pool)
        device.renew_generator(self._random)


class _Watch(TorchDispatchMode):
    """Refuses what cannot be recorded, before CUDA sees it; counts what would launch a kernel."""

    launches = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        operator = function.overloadpacket
        if operator in _NEED_VALUES or (operator in _COPIES and _waits(*args, **(kwargs or {}))):
            raise RuntimeError(f"{operator} needs values, which a recording does not have")
        found = function(*args, **(kwargs or {}))
        if operator not in _ALLOCATIONS and not function.is_view:
            self.launches += any(
                isinstance(x, torch.Tensor) and x.numel() for x in tree_leaves(found)
            )
        return found


def _waits(one, other=None, non_blocking=False, *, device=None, **_):
    """Whether a copy, `one.copy_(other)` or `one.to(device)`, brings values to the CPU."""
    source, target = (one, device) if other is None else (other, one.device)
    return (
        source.is_cuda
        and not non_blocking
        and target is not None
        and torch.device(target).type == "cpu"
    )
