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
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence

from caffe_plain.errors import CaffeError

from .. import distributed, engines, identity, run_folder
from ..data_layers import TYPES
from ..distributed import Alone
from ..engines import Engine
from ..errors import RelayError
from ..probe import Probe
from ..relay_solver import attach
from ..report import NoReport, Report
from ..run_plan import Plan, make_plan
from ..trainer import Trainer, summary, top_errors


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of `relay train`; words: those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a name below prototxt/, as `make models` lists")
    what.add_argument("--solver", help="a solver.prototxt of your own")
    parser.add_argument(
        "--relay",
        help="a relay.prototxt for --solver; with --model MODEL_relay, in place of the model's own",
    )
    parser.add_argument(
        "--extra", help="an extra.prototxt for --solver: plateau, cosine, warm-up, label smoothing"
    )
    parser.add_argument(
        "--data", help="folder with train_lmdb, val_lmdb, mean.binaryproto, color.txt"
    )
    parser.add_argument(
        "--feed",
        choices=tuple(TYPES),
        help="data: Caffe's own Data layer, without class-aware sampling and colour shift",
    )
    parser.add_argument(
        "--scene",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value for a field of the SceneData layers: class_aware=false, color_file=",
    )
    parser.add_argument(
        "--profile", choices=("short", "full"), help="short without --data, else full"
    )
    parser.add_argument("--batch", type=int, help="images per forward pass")
    parser.add_argument(
        "--crop",
        type=int,
        help="pixels a side of the crop; a mean image of another size gives its channels' means",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value for a field of the solver, or of extra.prototxt: lr_policy=plateau",
    )
    parser.add_argument("--weights", help="start from these .caffemodel files (comma-separated)")
    parser.add_argument("--snapshot", help="continue from this .solverstate")
    parser.add_argument("--gpu", default="auto", help="auto, none, a GPU's number, or several: 0,1")
    parser.add_argument("--precision", default="fp32", help="fp32, tf32 or bf16")
    parser.add_argument(
        "--probe",
        metavar="N",
        help="every N iterations, or every N%% of max_iter (20%%), measure every flow's gradients "
        "(tools/plot.py)",
    )
    parser.add_argument("--no-fuse", action="store_true", help="one BackwardFromTo per range")
    parser.add_argument(
        "--default-allocator",
        action="store_true",
        help="leave the C library's memory allocator as it is",
    )
    parser.add_argument("--out", help="the folder of the run")
    args = parser.parse_args(words)
    if args.probe and not re.fullmatch(r"[1-9][0-9]*%?", args.probe):
        parser.error(f"--probe {args.probe}: expected a number of iterations, as in 500, or 20%")
    return args


def main():
    args = arguments()
    gpus = args.gpu.split(",")
    if len(gpus) > 1 and "LOCAL_RANK" not in os.environ:
        os.execv(
            sys.executable,
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc_per_node={len(gpus)}",
                "-m",
                "relaybp",
                "train",
                *sys.argv[1:],
            ],
        )
    try:
        engine = engines.load()
        device = engine.use_device(own_gpu(args.gpu, engine.gpu_count()), args.precision)
        group = distributed.join(engine)
        status = train(engine, args, device, group)
    except CaffeError as error:
        sys.exit(f"train: {error}")
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


def train(engine: Engine, args: argparse.Namespace, device: str, group: Alone) -> int:
    """Train, or say that the run is finished; return the exit status.

    The run's folder is refused where another run lies in it; the same run goes on from its newest
    snapshot.
    """
    plan = plan_together(engine, args, group)
    wanted = plan.identity(args, group.size)
    record = identity.check(plan.run, wanted)
    if record and record["state"] == identity.FINISHED and not args.snapshot:
        if group.rank == 0:
            print(f"{plan.run}: finished after {record['iteration']} iterations; nothing to do")
        return 0
    if record and not args.snapshot:
        args.snapshot = run_folder.newest_state(plan.solver.snapshot_prefix)
    existed = group.first(os.path.exists(plan.run))
    try:
        trainer, report = set_up(engine, args, plan, device, group)
    except BaseException:
        if not existed and group.rank == 0:
            shutil.rmtree(plan.run, ignore_errors=True)  # it never started: leave no folder
        raise
    if group.rank == 0:
        identity.begin(plan.run, wanted, plan.net, trainer.relay.iter)
    run_recorded(trainer, report, plan, group)
    group.first(None)  # a launcher ends the others when one has ended: the first has saved now
    return trainer.status


def probe_interval(flag: str, max_iter: int) -> int:
    """The iterations between two probes: "500", or "20%" of max_iter."""
    if flag.endswith("%"):
        return max(1, max_iter * int(flag[:-1]) // 100)
    return int(flag)


def plan_together(engine: Engine, args: argparse.Namespace, group: Alone) -> Plan:
    """The plan of the run, with the same folder in every process; the first draws the demo."""
    if group.rank == 0:
        args.out = make_plan(engine.pb, args).run
    args.out = group.first(args.out)
    return make_plan(engine.pb, args)


def run_recorded(trainer: Trainer, report: Report | NoReport, plan: Plan, group: Alone) -> None:
    """Train to the end or to a stop, and record which of them it was."""
    begun, first, state = time.monotonic(), trainer.relay.iter, identity.INTERRUPTED
    try:
        errors = top_errors(plan.net, trainer.train() or {})
        seconds, iterations = time.monotonic() - begun, trainer.relay.iter - first
        tested = trainer.images_tested
        report.say(summary(plan.name, seconds, iterations, errors, tested, plan.run))
        if not trainer.stopped:
            state = identity.FINISHED
    finally:
        report.close()
        if group.rank == 0:
            identity.end(plan.run, state, trainer.relay.iter)


def set_up(
    engine: Engine, args: argparse.Namespace, plan: Plan, device: str, group: Alone
) -> tuple[Trainer, Report | NoReport]:
    """Everything that can go wrong before the first iteration.

    The first of several processes writes the files, the others wait for them.
    """
    if not args.default_allocator:
        engine.keep_freed_memory()
    if group.rank == 0:
        plan.save()
    group.first(None)
    solver = engine.make_solver(plan.path, plan.extra_path)
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
    if plan.note:
        report.say(plan.note)
    places = device + (f" x {group.size}" if group.size > 1 else "")
    report.say(f"{plan.name} on {places}, {relay.schedule.describe()}")
    if args.snapshot:
        report.say(f"Going on from {args.snapshot}")
        relay.restore(args.snapshot)
    for net in [solver.net, *solver.test_nets]:  # nobody looks inside between iterations
        engine.keep_values(net, args.no_fuse, args.no_fuse or param.snapshot_diff)
    return Trainer(relay, report), report
