"""Several processes that train together, one a GPU: torchrun starts them, this joins them.

    torchrun --nproc_per_node 4 tools/train.py --model resnet50_relay --gpu 0,1,2,3

On one machine --gpu 0,1,2,3 alone starts them, too (launcher.py). Each process trains on its share
of the records; gradients are averaged before every update, so n processes with batch b take the
steps of one with batch n b (except that BatchNorm normalises over each process's own batch). Needs
this repository's engine.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Callable

from caffe_plain.signals import Signals

from .engines import Engine
from .errors import RelayError

ONE_PROCESS = "an original Caffe trains in one process here; unset CAFFE_ROOT"


class Alone:
    """One process: nothing to join."""

    rank, size = 0, 1

    def first(self, value: Any) -> Any:
        """`value` of the first process, in every process; they wait for the first."""
        return value

    def each(self, value: Any) -> list[Any]:
        """The `value` of every process, in every process."""
        return [value]

    def requested(self, signals: Signals) -> str | None:
        """What a signal to any of the processes asks for, in every process."""
        return signals.requested()

    def begin(self, iteration: int) -> None:
        """Before the first draw of an iteration, counted from 0."""

    def adopt(self, solver: Any) -> None:
        """Train this solver together, beginning with the first process's parameters."""

    def backward(self, run: Callable[[], None]) -> None:
        """Call `run`, a backward pass of this iteration."""
        run()

    def average_gradients(self) -> None:
        """Replace every parameter's diff by its mean over the processes."""

    def average(self, values: list[float]) -> list[float]:
        """The mean over the processes of each of some numbers."""
        return values


class Group(Alone):
    """The processes that torchrun started, joined by the engine's NCCL.

    Whatever waits for the others raises LostProcessError, a CaffeError, when one has ended.
    """

    def __init__(self, caffe: Any):
        from caffe import device
        from caffe.training import parallel

        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        caffe.set_solver_count(self.size)
        caffe.set_solver_rank(self.rank)
        parallel.join_group("env://")
        self._parallel, self._device, self._nccl, self._sums = parallel, device, None, False
        device.set_random_seed(self.first(device.seed()))  # decides about the order of records

    def first(self, value):
        return self._parallel.said_by_first(value)

    def each(self, value):
        return self._parallel.said_by_each(value)

    def requested(self, signals):
        return self._nccl.requested(signals)

    def begin(self, iteration):
        """Draw what this process alone has drawn in this iteration of any such run.

        So a run goes on from the snapshot of the first, and masks of dropout differ.
        """
        self._device.seed_draws(self.rank, iteration)

    def adopt(self, solver):
        self._nccl = self._parallel.NCCL(solver)
        self._nccl.bcast()
        solver.net.after_gradients(self._add)

    def backward(self, run):
        self._sums = True
        try:
            run()
        finally:
            self._sums = False

    def _add(self, blobs):
        if self._sums:  # not what a probe of the first process runs
            self._nccl.add(blobs)

    def average_gradients(self):
        self._nccl.on_gradients_ready()

    def average(self, values):
        return self._parallel.mean(values)


def join(engine: Engine) -> Alone:
    """The group that torchrun's environment describes, or Alone."""
    if "LOCAL_RANK" not in os.environ:
        return Alone()
    if not engine.trains_together:
        raise RelayError(f"torchrun: {ONE_PROCESS}")
    return Group(engine.caffe)


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """How many processes train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_restarted() -> bool:
    """Whether torchrun starts the processes again when one has failed."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0


def keep_from_restarting() -> None:
    """Tell torchrun that a run was stopped; it takes every status but 0 for a failure."""
    if is_restarted() and local_rank() == 0:
        os.kill(os.getppid(), signal.SIGTERM)
