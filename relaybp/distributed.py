"""Several processes that train together, one a GPU: torchrun starts them, this joins them.

    torchrun --nproc_per_node 4 tools/train.py --model resnet50_relay --gpu 0,1,2,3

Each process trains on its share of the records; gradients are averaged before every update, so
n processes with batch b take the steps of one with batch n b (but for BatchNorm, which normalises
over each process's own batch). Needs this repository's engine.
"""

import os
from datetime import timedelta

from .engines import Engine
from .errors import RelayError


class Alone:
    """One process: nothing to join."""

    rank, size = 0, 1

    def agree(self, value):
        """`value` of the first process, in every process."""
        return value

    def same_weights(self, net):
        """Give every process the first one's parameters."""

    def average_gradients(self, net):
        """Replace every parameter's diff by its mean over the processes."""

    def average(self, values):
        """The mean over the processes of each of some numbers."""
        return values

    def wait(self):
        """Until every process is here."""

    def close(self):
        """Leave the group."""


class Group(Alone):
    """The processes that torchrun started."""

    def __init__(self, caffe, uses_gpu):
        import torch.distributed

        self._distributed, self._uses_gpu = torch.distributed, uses_gpu
        # the first process tests and saves while the others wait
        self._distributed.init_process_group(
            "nccl" if uses_gpu else "gloo", timeout=timedelta(hours=6)
        )
        self.rank, self.size = self._distributed.get_rank(), self._distributed.get_world_size()
        caffe.set_solver_count(self.size)
        caffe.set_solver_rank(self.rank)

    def agree(self, value):
        box = [value]
        self._distributed.broadcast_object_list(box)
        return box[0]

    def same_weights(self, net):
        for layer_blobs in net.params.values():
            for blob in layer_blobs:
                self._distributed.broadcast(blob.tensor, 0)
                blob.show()

    def average(self, values):
        import torch

        mean = torch.tensor(values, device="cuda" if self._uses_gpu else "cpu")
        self._distributed.all_reduce(mean)
        return (mean / self.size).tolist()

    def average_gradients(self, net):
        import torch

        blobs = [param.blob for param in net.learnable]
        diffs = [blob.diff_tensor for blob in blobs]
        flat = torch.cat([diff.reshape(-1) for diff in diffs])
        self._distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([diff.numel() for diff in diffs])
        for blob, diff, part in zip(blobs, diffs, parts):
            diff.copy_(part.view(diff.shape))
            blob.show()

    def wait(self):
        self._distributed.barrier()

    def close(self):
        self._distributed.destroy_process_group()


def join(engine: Engine, uses_gpu: bool) -> Alone:
    """The group that torchrun's environment describes, or Alone."""
    if "LOCAL_RANK" not in os.environ:
        return Alone()
    if not engine.trains_together:
        raise RelayError("torchrun: an original Caffe trains in one process here; unset CAFFE_ROOT")
    return Group(engine.caffe, uses_gpu)


def local_rank():
    """The number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))
