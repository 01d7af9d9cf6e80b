"""Train a model by name, or any solver, with or without a relay file.

    python tools/train.py --model resnet50_relay
    python tools/train.py --model resnet50_relay --data /path/to/lmdbs
    python tools/train.py --solver solver.prototxt [--relay relay.prototxt]
                          [--weights a.caffemodel] [--snapshot b.solverstate]

The run's files go to runs/MODEL-DATE-TIME/, or to --out; run.json there says what the run is, and
whether it is finished. The same command goes on from the newest snapshot in that folder. Without
--data the demo scenes are drawn and a short profile runs; --profile full runs the model's own
schedule.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from typing import Any

from caffe_plain.errors import CaffeError
from caffe_plain.files import remove_leftovers
from caffe_plain.signals import CAFFE_EFFECTS, Signals

from .. import (
    batch_change,
    cli,
    distributed,
    engines,
    estimate,
    identity,
    run_files,
    run_folder,
    snapshots,
    streams,
)
from ..distributed import Alone
from ..engines import Engine
from ..engines.interface import refuse_missing
from ..errors import NotFiniteError, RelayError
from ..finite import check_weights
from ..launcher import launch
from ..lock import Lock
from ..probe import Probe
from ..relay_solver import attach
from ..report import NoReport, Report
from ..retention import Keep
from ..run_plan import Plan, make_plan, own_folder
from ..scores import blobs_read
from ..train_options import arguments
from ..trainer import Trainer, summary, top_errors


def main():
    args = arguments()
    gpus = args.gpu.split(",")
    if len(gpus) > 1 and "LOCAL_RANK" not in os.environ:
        engine = engines.load()
        if not engine.trains_together:
            sys.exit(f"train: --gpu {args.gpu}: {distributed.ONE_PROCESS}")
        refuse_missing(gpus, engine.gpu_count())
        sys.exit(launch(["-m", "relaybp", "train", *sys.argv[1:]], len(gpus)))
    streams.protect()
    several, first = "LOCAL_RANK" in os.environ, os.environ.get("RANK", "0") == "0"
    try:
        with Signals(CAFFE_EFFECTS, several, first, args.time_limit) as signals:
            signals.interrupts = not several
            engine = engines.load()
            device = engine.use_device(own_gpu(args.gpu, engine.gpu_count()), args.precision)
            if args.fixed_ways:
                engine.fix_ways()
            group = distributed.join(engine)
            status = train(engine, args, device, group, signals)
    except NotFiniteError as error:  # the same in all processes
        sys.exit(f"train: {error}" if first else 1)
    except CaffeError as error:
        sys.exit(f"train: {error}")
    if status:
        distributed.keep_from_restarting()
    sys.exit(status)


def own_gpu(flag: str, visible: int) -> str:
    """This process's part of the --gpu flag: of several on a machine, each has a GPU of its own.

    visible: how many GPUs this process sees; a cluster may show each process only one.
    """
    names = flag.split(",")
    if flag == "auto" and visible:
        names = [str(index) for index in range(visible)]
    rank, size = distributed.local_rank(), distributed.local_size()
    if flag != "none" and visible > 1 and len(names) < size:
        raise RelayError(
            f"--gpu {flag}: {size} processes on this machine need a GPU each; found {len(names)} "
            "of them; start fewer processes or name more GPUs"
        )
    return names[rank % len(names)]


def train(
    engine: Engine, args: argparse.Namespace, device: str, group: Alone, signals: Signals
) -> int:
    """Train, or say that the run is finished; return the exit status.

    The run's folder is refused where another run lies in it, or another process trains there; the
    same run goes on from its newest whole snapshot.
    """
    find_folder(args)
    plan, existed = plan_together(engine, args, group)
    signals.interrupts = False  # from now on a stop waits for a snapshot
    lock = None
    try:
        wanted = plan.identity(args, group.size)
        record = identity.check(plan.run, wanted, goes_on=True)
        if record and record["state"] == identity.FINISHED and not args.snapshot:
            if group.rank == 0:
                print(f"{plan.run}: finished after {record['iteration']} iterations; nothing to do")
            return 0
        lock = Lock(plan.run) if group.rank == 0 else None
        if record and not args.snapshot:
            args.snapshot = newest_together(plan, group)
        if record:
            say_change(record["identity"]["batch"], wanted["batch"], group)
        trainer, report = set_up(engine, args, plan, device, group, signals)
    except BaseException:
        if not existed and group.rank == 0:
            leave_no_folder(plan.run, lock)
        raise
    if group.rank == 0:
        images = run_files.preparation_of(engine.pb, plan)
        identity.begin(plan.run, wanted, plan.net, trainer.relay.iter, images)
    run_recorded(trainer, report, plan, group)
    if not group.rank and not args.no_next:
        again = cli.train_again(sys.argv[1:], plan.run) if trainer.stopped else None
        print(cli.next_steps(plan.run, again), flush=True)
    group.first(None)  # a launcher ends the others when one has ended: the first has saved now
    if lock:
        lock.release()
    return trainer.status


def leave_no_folder(run: str, lock: Lock | None) -> None:
    """Remove the folder of a run that never started; lock: without one, others may be in there."""
    if lock:
        shutil.rmtree(run, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.rmdir(run)  # where it is empty


def probe_interval(flag: str, max_iter: int) -> int:
    """The iterations between two probes: "500", or "20%" of max_iter."""
    if flag.endswith("%"):
        return max(1, max_iter * int(flag[:-1]) // 100)
    return int(flag)


def find_folder(args: argparse.Namespace) -> None:
    """Let --snapshot FOLDER and auto be the folder in --out, from which a run goes on anyway."""
    if args.snapshot and os.path.isdir(args.snapshot):
        if args.out and not os.path.samefile(args.out, args.snapshot):
            raise RelayError(
                f"{cli.spelled('--snapshot', args.snapshot)} and "
                f"{cli.spelled('--out', args.out)}: two folders of one run; leave one out, or name "
                "the .solverstate to start another run from"
            )
        args.out, args.snapshot = args.snapshot, None
    elif args.snapshot == snapshots.AUTO:
        if not args.out:
            raise RelayError(
                f"{cli.spelled('--snapshot', 'auto')}: of which run? name its folder with "
                f"{cli.spelled('--out')}"
            )
        args.snapshot = None


def plan_together(engine: Engine, args: argparse.Namespace, group: Alone) -> tuple[Plan, bool]:
    """The plan of the run, with the same folder in every process; the first draws the demo.

    Also whether the folder was there. One without a name of its own is made at once: another run
    that starts in this second gets another.
    """
    existed = True
    if distributed.is_restarted() and not args.out:
        raise RelayError(
            "torchrun --max-restarts: which folder is the run to go on in? name it with --out"
        )
    if group.rank == 0:
        existed = bool(args.out) and os.path.exists(args.out)
        run = make_plan(engine.pb, args).run
        args.out = args.out or own_folder(run)
    args.out, existed = group.first((args.out, existed))
    return make_plan(engine.pb, args), existed


def newest_together(plan: Plan, group: Alone) -> str | None:
    """The newest whole snapshot of the run; says why newer ones are not taken."""
    found = snapshots.newest(plan.solver.snapshot_prefix) if group.rank == 0 else None
    state, problems = group.first(found)
    for problem in problems if group.rank == 0 else ():
        print(f"Passed over: {problem}", flush=True)
    return state


def say_change(found: dict[str, Any], wanted: dict[str, Any], group: Alone) -> None:
    """Say where the run goes on with another batch than before."""
    change = batch_change.describe(found, wanted)
    if change and group.rank == 0:
        print(change, flush=True)


def run_recorded(trainer: Trainer, report: Report | NoReport, plan: Plan, group: Alone) -> None:
    """Train to the end or to a stop, and record which of them it was."""
    try:
        train_and_sum_up(trainer, report, plan, group)
    except BaseException:
        with contextlib.suppress(CaffeError):  # the first error is what matters
            end_record(trainer, plan, group, identity.INTERRUPTED)
        raise
    finally:
        report.close()
    stopped = trainer.stopped
    end_record(trainer, plan, group, identity.INTERRUPTED if stopped else identity.FINISHED)


def train_and_sum_up(trainer: Trainer, report: Report | NoReport, plan: Plan, group: Alone) -> None:
    """Train, and say in the end for how long, and with which errors."""
    begun, first = time.monotonic(), trainer.relay.iter
    errors = top_errors(plan.net, trainer.train() or {})
    seconds, iterations = time.monotonic() - begun, trainer.relay.iter - first
    tested = trainer.relay.images_tested
    report.stop()
    report.say(summary(plan.name, seconds, iterations, errors, tested, plan.run))


def end_record(trainer: Trainer, plan: Plan, group: Alone, state: str) -> None:
    """Record how far the run has got."""
    if group.rank == 0:
        identity.end(plan.run, state, trainer.relay.iter)


def set_up(
    engine: Engine,
    args: argparse.Namespace,
    plan: Plan,
    device: str,
    group: Alone,
    signals: Signals,
) -> tuple[Trainer, Report | NoReport]:
    """Everything that can go wrong before the first iteration.

    The first of several processes writes the files, the others wait for them.
    """
    if not args.default_allocator:
        engine.keep_freed_memory()
    if group.rank == 0:
        plan.save()
        folder, stem = os.path.split(plan.solver.snapshot_prefix)
        remove_leftovers(plan.run)
        if os.path.isdir(folder or "."):
            remove_leftovers(folder, f"{stem}_iter_")
    group.first(None)
    solver = engine.make_solver(plan.path, plan.extra_path, plan.solver.snapshot_prefix)
    for weights in args.weights.split(",") if args.weights else []:
        solver.net.copy_from(weights)
    group.adopt(solver)
    param, run = solver.param, plan.run
    report = Report(run, plan.name, param.max_iter, param.display) if not group.rank else NoReport()

    def probe(schedule):
        return Probe(schedule, probe_interval(args.probe, param.max_iter), run, report.events)

    relay = attach(
        solver,
        plan.relay_path,
        fused=not args.no_fuse,
        group=group,
        after_forward=probe if args.probe and group.rank == 0 else None,
    )
    for note in plan.notes:
        report.say(note)
    if not group.rank and (line := run_files.write(engine.caffe, plan, solver)):
        report.say(line)
    is_slow = device == "CPU" and not group.rank
    if is_slow and (line := estimate.warning(engine.caffe, plan)):
        report.say(line)
    places = device + (f" x {group.size}" if group.size > 1 else "")
    report.say(f"{plan.name} on {places}, {relay.schedule.describe()}")
    if args.snapshot:
        report.say(f"Going on from {args.snapshot}")
        relay.restore(args.snapshot)
    if args.snapshot or args.weights:
        check_weights(solver.net, args.snapshot or args.weights)
    report.go_on_from(relay.iter)
    let_values_go(engine, solver, args.no_fuse)
    keep = keep_of(args, plan) if group.rank == 0 and args.keep else None
    return Trainer(relay, report, signals, args.on_nan, keep), report


def let_values_go(engine: Engine, solver: Any, keeps_all: bool) -> None:
    """Let nets keep only what is read between passes, which is the scores in tests.

    keeps_all: let them keep everything.
    """
    diffs = keeps_all or solver.param.snapshot_diff
    engine.keep_values(solver.net, keeps_all, diffs)
    for net in solver.test_nets:
        engine.keep_values(net, keeps_all or blobs_read(net), diffs)


def keep_of(args: argparse.Namespace, plan: Plan) -> Keep:
    """Which snapshots --keep, --keep-best and --keep-every leave."""
    output = run_folder.error_output(plan.net) if args.keep_best else ""
    if args.keep_best and not output:
        raise RelayError(
            f"--keep-best: the test net of {plan.net.name!r} has no Accuracy layer that would tell "
            "which one is the best"
        )
    return Keep(args.keep, args.keep_every or 0, output, run=plan.run)
