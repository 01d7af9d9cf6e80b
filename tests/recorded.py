"""CUDA graphs on the CPU: records the operators of PyTorch that a function runs, repeats them.

Like a graph, a repeat runs no Python: only the same operators on the same tensors, into the memory
that their results had when they were recorded. Recording changes nothing that existed before, and
leaves results undefined.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Recording(TorchDispatchMode):
    """The CPU's counterpart of caffe.run.replay.Recording."""

    is_valid = True
    running = False  # whether any is being made

    def __init__(self, run):
        super().__init__()
        self._calls, self._overwritten = [], []
        Recording.running = True
        try:
            with self:
                self.result = run()
        finally:
            Recording.running = False
        for x, before in reversed(self._overwritten):
            x.copy_(before)
        for _, args, _, results in self._calls:
            for result in results:
                if not any(_shares(result, x) for x in tree_leaves(args)):
                    result.fill_(_POISON if result.is_floating_point() else 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            raise RuntimeError("operation not permitted when stream is capturing")
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
