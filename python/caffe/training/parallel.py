"""Training on several GPUs or CPUs, one process for each (pycaffe's NCCL).

As in Caffe, every process sets solver count and rank, makes its solver, and then:

    nccl = caffe.NCCL(solver, uid)        # uid: one caffe.NCCL.new_uid() for all processes
    nccl.bcast()                          # the weights of rank 0
    solver.add_callback(nccl)             # averages the gradients before each update
    solver.net.after_backward(nccl)       # optional, Caffe's way: nothing is fused then
    solver.net.after_gradients(nccl.add)  # optional: sums them while backward runs
"""

import atexit
import contextlib
import datetime
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.graph import increment_version

from caffe_plain.errors import CaffeError, LostProcessError
from caffe_plain.signals import Signals

from .. import device
from ..blob import show
from ..kernels import choice

_ACTIONS = (None, "snapshot", "stop")  # the later, the more it asks for
_WAIT = datetime.timedelta(hours=6)  # for a script whose rank 0 tests while the others wait
_MEET_S = 300  # how long after one another processes may start
_LOOK = datetime.timedelta(seconds=0.5)  # between two looks at the signals
_LOOKS = 20  # 10 s: how long what others take part in may last after the signal to end
_BUCKET_BYTES = 4 << 20  # a message: small enough to start early, too large for its start to count

_lost = threading.Event()  # whether another process has ended


def has_nccl() -> bool:
    """Whether GPUs can train together."""
    return torch.cuda.is_available() and dist.is_available() and dist.is_nccl_available()


def join_group(init_method: str) -> None:
    """Meet the other processes, `device.solver_count()` in all; the end of the process leaves.

    init_method: where they meet, as torch.distributed has it: "file:///path" or "env://".
    """
    if init_method == "env://" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        where = {"store": _store_of_this_start()}
    else:
        where = {"init_method": init_method}
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.current().type == "cuda" else "gloo",
        **where,
        timeout=_WAIT,
        rank=device.solver_rank(),
        world_size=device.solver_count(),
    )
    atexit.register(_end)


def _store_of_this_start() -> dist.Store:
    """A store that rank 0 makes, and whose port it leaves in that of torchrun or its like.

    NOTE: torchrun keeps one store over all its restarts (pytorch/pytorch issue 135712), in which
    processes would find, and wait for, those that have died.
    """
    host, key = os.environ["MASTER_ADDR"], "caffe/port"
    agents = dist.TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False)
    if device.solver_rank() == 0:
        mine = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        agents.set(key, str(mine.port))
        return mine
    until = time.monotonic() + _MEET_S
    while time.monotonic() < until:
        port = int(agents.get(key))
        try:
            socket.create_connection((host, port), timeout=_MEET_S).close()
        except OSError:  # that of an earlier start
            time.sleep(0.1)
            continue
        return dist.TCPStore(host, port, is_master=False)
    raise LostProcessError(f"process {device.solver_rank()}: rank 0 is not at {host}")


def leave_group() -> None:
    """Leave the group that `join_group` entered, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def said_by_first(value: Any) -> Any:
    """What rank 0 gives as `value`, in every process."""
    box = [value]
    with _others():
        dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


def said_by_each(value: Any) -> list[Any]:
    """What every process gives as `value`, by rank, in every process."""
    said = [None] * dist.get_world_size()
    with _others():
        dist.all_gather_object(said, value)
    return said


def mean(values: list[float]) -> list[float]:
    """The mean over the processes of each of some numbers."""
    total = torch.tensor(values, dtype=torch.float64)
    with _others():
        dist.all_reduce(total)
    return (total / dist.get_world_size()).tolist()


def _end():
    """At the end of the process: the threads of a group that is still there end it badly.

    To leave a group that has lost a process can take for ever; the end is a failure then.
    """
    if _lost.is_set():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    leave_group()


class NCCL:
    """Joins this process's solver with those of the other processes.

    What waits for other processes raises LostProcessError when one of them has ended. The weights
    are then those of the last update.
    """

    def __init__(self, solver, uid: str = ""):
        self.solver, self.net = solver, solver.net
        self._signals = None
        if not dist.is_initialized():
            join_group(f"file://{uid}")
        if dist.get_world_size() != device.solver_count():
            raise CaffeError(
                f"NCCL: {device.solver_count()} solvers in a group of "
                f"{dist.get_world_size()}; call set_solver_count first"
            )
        self.on_start()
        owned = {id(p.blob) for p in self.net.learnable}
        shares = any(id(blob) not in owned for n in self.net.nodes for blob in n.layer.blobs)
        self._early = solver.param.iter_size == 1 and not shares
        self._computes_alike = False

    @staticmethod
    def new_uid() -> str:
        """A name under which the processes of one training on this machine find each other."""
        return os.path.join(tempfile.mkdtemp(prefix="caffe-nccl-"), "group")

    def bcast(self) -> None:
        """Give every process the weights of rank 0."""
        for param in self.net.learnable:
            tensor = _flat(param.blob.tensor)
            self._wait(dist.broadcast(tensor, src=0, async_op=True), tensor)
            increment_version((tensor,))  # torch.distributed does not
            param.blob.show("data")

    def requested(self, signals: Signals) -> str | None:
        """What a signal to any of the processes asks for, in every one: "snapshot" or "stop".

        Every process must call it equally often. "stop" wins; `signals.status` becomes the same.
        A launcher sends SIGTERM also when one process has ended: who waits for the others does so
        for 10 s more from then on.
        """
        self._signals = signals
        said = torch.tensor([_ACTIONS.index(signals.requested()), signals.status])
        self._wait(dist.all_reduce(said, dist.ReduceOp.MAX, async_op=True), said)
        action, status = said.tolist()
        if status:  # else a signal that has come meanwhile may have set it
            signals.status = status
        return _ACTIONS[action]

    def close(self) -> None:
        """Leave the group; the end of the process does, too."""
        leave_group()

    def __call__(self, layer: int) -> None:
        """After a layer's backward, see `add`."""
        self.add(self.net.nodes[layer].layer.blobs)

    def add(self, blobs: list) -> None:
        """Begin to sum the gradients of parameters over the processes: backward is done with them.

        Where a gradient is not final yet (iter_size, shared parameters), the sum waits for
        `on_gradients_ready`.
        """
        if self._early:
            self._buckets_of_iteration().add(blobs)

    def on_start(self) -> None:
        """Before an iteration: nothing has been summed."""
        self._buckets = None

    def on_gradients_ready(self) -> None:
        """Sum what has not been summed yet, wait for all, and average."""
        self._buckets_of_iteration().finish(device.solver_count(), self._wait)
        self._buckets = None
        if not self._computes_alike:  # as a snapshot by rank 0 lets every process go on
            choice.restore(said_by_first(choice.state()))
            self._computes_alike = True

    def _buckets_of_iteration(self):
        if self._buckets is None:
            self._buckets = _Buckets([param.blob for param in self.net.learnable if param.lr_mult])
        return self._buckets

    def _wait(self, work, tensor):
        """Until `work` on `tensor` is done.

        NOTE: a killed peer shows as an error in gloo's work, but now and then gloo misses it.
        """
        looks = 0
        with _others():
            while tensor.device.type == "cpu":
                try:
                    return work.wait(_LOOK)
                except RuntimeError:
                    looks += bool(self._signals and self._signals.status)
                    if work.is_completed():  # only then is the error that of the work
                        break
                    if looks > _LOOKS:
                        raise
            work.wait()


class _Buckets:
    """Gradients on their way round the processes, a few MB a message.

    Every process sends the same messages in the same order: a bucket starts when all of its
    gradients are final and the bucket before it has started. Backward comes to the last
    parameters first, so they are in the first bucket.
    """

    def __init__(self, blobs):
        self._buckets, room = [], 0
        for blob in reversed(blobs):
            size = blob.tensor.numel() * blob.tensor.element_size()
            if size > room:
                self._buckets.append([])
                room = _BUCKET_BYTES
            self._buckets[-1].append(blob)
            room -= size
        self._place = {id(blob): k for k, bucket in enumerate(self._buckets) for blob in bucket}
        self._missing = [{id(blob) for blob in bucket} for bucket in self._buckets]
        self._started = []  # (the sum of a bucket, its work)

    def add(self, blobs):
        for blob in blobs:
            if id(blob) in self._place:
                self._missing[self._place[id(blob)]].discard(id(blob))
        while len(self._started) < len(self._buckets) and not self._missing[len(self._started)]:
            self._start()

    def finish(self, count, wait):
        """Replace every gradient by its mean over `count` processes; wait(work, tensor)."""
        while len(self._started) < len(self._buckets):
            self._start()
        for bucket, (total, work) in zip(self._buckets, self._started, strict=True):
            wait(work, total)
            diffs = [_flat(blob.diff_tensor) for blob in bucket]
            parts = total.div_(count).split([diff.numel() for diff in diffs])
            torch._foreach_copy_(diffs, parts)
            show(bucket, "diff")

    def _start(self):
        bucket = self._buckets[len(self._started)]
        total = torch.cat([_flat(blob.diff_tensor) for blob in bucket])
        with _others():
            self._started.append((total, dist.all_reduce(total, async_op=True)))


@contextlib.contextmanager
def _others():
    """Around what other processes take part in: an error names the cause."""
    try:
        yield
    except RuntimeError as error:
        _lost.set()
        raise LostProcessError(
            f"process {device.solver_rank()} of {device.solver_count()} lost another one, whose "
            f"own message says why it ended: {error}"
        ) from error


def _flat(tensor):
    """The tensor's memory in its own order, whatever its layout."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
