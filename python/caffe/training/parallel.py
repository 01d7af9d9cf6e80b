"""Training on several GPUs or CPUs, one process for each (pycaffe's NCCL).

As in Caffe, every process sets solver count and rank, makes its solver, and then:

    nccl = caffe.NCCL(solver, uid)        # uid: one caffe.NCCL.new_uid() for all processes
    nccl.bcast()                          # the weights of rank 0
    solver.add_callback(nccl)             # averages the gradients before each update
    solver.net.after_backward(nccl)       # optional: already while backward runs
"""

import atexit
import datetime
import os
import tempfile

import torch
import torch.distributed as dist

from caffe_plain.errors import CaffeError

from .. import device
from ..blob import show

_ACTIONS = (None, "snapshot", "stop")
_WAIT = datetime.timedelta(hours=6)  # for rank 0, which tests and saves while the others wait


def has_nccl():
    """Whether GPUs can train together."""
    return torch.cuda.is_available() and dist.is_available() and dist.is_nccl_available()


class NCCL:
    """Joins this process's solver with those of the other processes."""

    def __init__(self, solver, uid):
        self.solver, self.net = solver, solver.net
        self._pending = []
        owned = {id(p.blob) for p in self.net.learnable}
        shares = any(id(blob) not in owned for n in self.net.nodes for blob in n.layer.blobs)
        self._early = solver.param.iter_size == 1 and not shares
        self._reduced = set()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if device.current().type == "cuda" else "gloo"
            dist.init_process_group(
                backend,
                init_method=f"file://{uid}",
                timeout=_WAIT,
                rank=device.solver_rank(),
                world_size=device.solver_count(),
            )
            atexit.register(_leave)  # threads of a group that is still there end the process badly
        if dist.get_world_size() != device.solver_count():
            raise CaffeError(
                f"NCCL: {device.solver_count()} solvers in a group of "
                f"{dist.get_world_size()}; call set_solver_count first"
            )

    @staticmethod
    def new_uid():
        """A name under which the processes of one training on this machine find each other."""
        return os.path.join(tempfile.mkdtemp(prefix="caffe-nccl-"), "group")

    def bcast(self):
        """Give every process the weights of rank 0."""
        for param in self.net.learnable:
            dist.broadcast(_flat(param.blob.tensor), src=0)
            param.blob.show()

    def agree(self, action):
        """What rank 0 says, None, "snapshot" or "stop", in every process."""
        said = torch.tensor([_ACTIONS.index(action)])
        dist.broadcast(said, src=0)
        return _ACTIONS[said.item()]

    def close(self):
        """Leave the group; the end of the process does, too."""
        _leave()

    def __call__(self, layer):
        """After a layer's backward: begin to sum its gradients over the processes.

        Where a gradient is not final yet (iter_size, shared parameters), the sum waits for
        `on_gradients_ready`.
        """
        if self._early:
            self._reduce(self.net.nodes[layer].layer.blobs)

    def on_start(self):
        """Before an iteration: nothing has been summed."""
        self._reduced.clear()

    def on_gradients_ready(self):
        """Sum what has not been summed yet, wait for all, and average."""
        self._reduce([p.blob for p in self.net.learnable if id(p.blob) not in self._reduced])
        for work in self._pending:
            work.wait()
        self._pending.clear()
        blobs = [p.blob for p in self.net.learnable]
        show(blobs)
        torch._foreach_div_([blob.diff_tensor for blob in blobs], device.solver_count())
        show(blobs)

    def _reduce(self, blobs):
        for blob in blobs:
            self._reduced.add(id(blob))
            self._pending.append(dist.all_reduce(_flat(blob.diff_tensor), async_op=True))


def _leave():
    if dist.is_initialized():
        dist.destroy_process_group()


def _flat(tensor):
    """The tensor's memory in its own order, whatever its layout."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
