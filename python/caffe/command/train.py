"""caffe train: train a solver's net, from scratch, from weights or from a snapshot."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import NamedTuple

from caffe_plain import python_layers
from caffe_plain.errors import CaffeError, LostProcessError
from caffe_plain.glog import logger, say
from caffe_plain.settings import apply_setting
from caffe_plain.signals import Signals
from caffe_plain.trained import check_no_run

from .. import device
from ..files.text import read_solver
from ..kernels import choice
from ..proto import caffe_pb2
from ..solver import get_solver
from ..training.nets import find
from ..training.parallel import NCCL
from .flags import FATAL, stages, use_gpus
from .net_lines import describe

_GRACE_S = 20  # how long the others may take to end by themselves after a process has ended


class Job(NamedTuple):
    """What every process of a training needs to know."""

    param: caffe_pb2.SolverParameter
    extra: str = None  # the extra file
    snapshot: str = ""
    precision: str = "fp32"
    fixed_ways: bool = False

    def settle(self):
        """Compute as it says, in this process."""
        device.set_precision(self.precision)
        if self.fixed_ways:
            choice.set_measured(False)


def train(options):
    """Run the command."""
    if not options.solver:
        raise CaffeError("train needs -solver, a solver definition (solver.prototxt)")
    if options.snapshot and options.weights:
        raise CaffeError("give -snapshot to resume training or -weights to fine-tune, not both")
    effects = {signal.SIGINT: options.sigint_effect, signal.SIGHUP: options.sighup_effect}
    signals = Signals(effects)
    device.keep_freed_memory()
    job = Job(
        solver_param(options),
        options.extra or None,
        options.snapshot,
        options.precision,
        options.fixed_ways,
    )
    check_no_run(job.param.snapshot_prefix)
    gpus = use_gpus(options.gpu or _gpu_of(job.param))
    with signals:
        if len(gpus) > 1:
            train_together(job, gpus, signals, effects)
        else:
            job.settle()
            solver = make_solver(job)
            solver.requested_action = signals.requested
            say("caffe", "Starting Optimization")
            solver.solve()
    if signals.status:
        sys.exit(signals.status)
    say("caffe", "Optimization Done.")


def solver_param(options):
    """The solver's settings with what the flags change."""
    param = read_solver(options.solver)
    for setting in options.set or ():
        apply_setting(param, setting, "-set")
    if options.weights:
        param.weights[:] = [options.weights]
    if options.level:
        param.train_state.level = options.level
    if options.stage:
        param.train_state.stage.extend(stages(options.stage))
    folder = os.path.dirname(options.solver)
    for name in ("net", "train_net"):
        if param.HasField(name):
            setattr(param, name, find(getattr(param, name), folder))
    for names in (param.test_net, param.weights):
        names[:] = [
            ",".join(find(path.strip(), folder) for path in name.split(",")) for name in names
        ]
    return param


def _gpu_of(param):
    """The -gpu flag that is equivalent to the solver's own solver_mode and device_id."""
    if param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU:
        return str(max(param.device_id, 0))
    return ""


def make_solver(job):
    """The solver, described in the log, continued from a snapshot if there is one."""
    param = job.param
    say("solver", f"Initializing solver from parameters: \n{param}")
    solver = get_solver(param, job.extra)
    sources = [*param.test_net, *[param.net] * len(solver.test_nets)]
    _describe(f"training net from net file: {param.net or param.train_net}", solver.net, param)
    for index, net in enumerate(solver.test_nets):
        _describe(f"test net (#{index}) specified by net file: {sources[index]}", net, param)
    for net in (solver.net, *solver.test_nets):  # nobody looks inside between iterations
        net.keep_blobs, net.keep_diffs = False, param.snapshot_diff
    say("solver", "Solver scaffolding done.")
    if job.snapshot:
        say("caffe", f"Resuming from {job.snapshot}")
        solver.restore(job.snapshot)
        say("sgd_solver", "SGDSolver: restoring history")
    return solver


def _describe(what, net, param):
    say("solver", f"Creating {what}")
    describe(net)
    for path in (path for paths in param.weights for path in paths.split(",")):
        say("solver", f"Finetuning from {path.strip()}")


def train_together(job, gpus, signals, effects):
    """Train with one process for each of `gpus` (None: a CPU); this one is the first.

    Every process answers its own signals (effects: as Signals has them), in the same iteration.
    """
    uid, ending = NCCL.new_uid(), threading.Event()
    context = multiprocessing.get_context("spawn")
    if job.param.random_seed < 0:
        job.param.random_seed = device.seed() >> 1  # all must agree on the order of the records
    message = job._replace(param=job.param.SerializeToString())
    others = [
        context.Process(target=_work, daemon=True, args=(message, gpus, rank, uid, effects))
        for rank in range(1, len(gpus))
    ]
    try:
        for rank, process in enumerate(others, 1):
            process.start()
            threading.Thread(target=_watch, args=(process, rank, ending), daemon=True).start()
        join(job, gpus, 0, uid, signals)
        for process in others:
            process.join()
    except BaseException:
        ending.set()
        for process in others:
            if process.pid:
                process.kill()  # it would wait for this one, and this one for it
        raise


def _watch(process, rank, ending):
    """Report a process that fails; end this one if it does not end by itself after a while."""
    process.join()
    if process.exitcode and not ending.is_set():
        say(
            "caffe",
            f"The training process of rank {rank} ended with status {process.exitcode}; if it had "
            "something to say, that stands above",
            FATAL,
        )
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_S)
        os._exit(1)


def _work(message, gpus, rank, uid, effects):
    """What every process except the first does: train without logs, tests and snapshots."""
    logger.setLevel(logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Signals(effects, patient=True) as signals, python_layers.restricted():
        job = message._replace(param=caffe_pb2.SolverParameter.FromString(message.param))
        try:
            join(job, gpus, rank, uid, signals)
        except LostProcessError:
            sys.exit(1)  # the first process says what there is to say


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def join(job, gpus, rank, uid, signals):
    """Train as number `rank` of several processes."""
    device.set_solver_count(len(gpus))
    device.set_solver_rank(rank)
    if gpus[rank] is not None:
        device.set_device(gpus[rank])
        device.set_mode_gpu()
    job.settle()
    solver = make_solver(job)
    nccl = NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.after_gradients(nccl.add)
    solver.requested_action = lambda: nccl.requested(signals)
    say("caffe", "Starting Optimization")
    try:
        solver.solve()
    except LostProcessError:
        if rank == 0:
            solver.snapshot()
        raise
    nccl.close()
