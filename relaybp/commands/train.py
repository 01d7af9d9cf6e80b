"""Train a model by name, or any solver, with or without a relay file.

    python tools/train.py --model resnet50_relay
    python tools/train.py --model resnet50_relay --data /path/to/lmdbs
    python tools/train.py --solver solver.prototxt [--relay relay.prototxt]
                          [--weights a.caffemodel] [--snapshot b.solverstate]

The run's files go to runs/MODEL-DATE-TIME/. Without --data the demo scenes are drawn and a short
profile runs; --profile full runs the model's own schedule.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from caffe_plain.errors import CaffeError

from .. import distributed, engines, models, relay_file, run_folder
from ..data_layers import TYPES
from ..errors import RelayError
from ..probe import Probe
from ..relay_solver import attach
from ..report import NoReport, Report
from ..trainer import Trainer, summary, top_errors

DEMO = os.path.join("data", "demo")
SHORT = [
    "max_iter=120",
    "base_lr=0.002",
    "lr_policy=fixed",
    "iter_size=1",
    "display=5",
    "test_interval=60",
    "test_initialization=false",
    "snapshot=60",
]
SHORT_BATCH, SHORT_CROP = 16, 112
LEAST_CROP = {"inception_v3": 267}  # whose auxiliary head asks for more than SHORT_CROP
DEMO_SIZE = 128


def arguments():
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
        type=int,
        metavar="N",
        help="every N iterations, measure every flow's gradients (tools/plot.py)",
    )
    parser.add_argument("--no-fuse", action="store_true", help="one BackwardFromTo per range")
    parser.add_argument(
        "--default-allocator",
        action="store_true",
        help="leave the C library's memory allocator as it is",
    )
    parser.add_argument("--out", help="the folder of the run")
    return parser.parse_args()


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


def train(engine, args, device, group):
    name = args.model or os.path.splitext(os.path.basename(args.solver))[0]
    run = group.first(args.out or os.path.join("runs", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"))
    existed = os.path.exists(run)
    try:
        trainer, report, net_param = set_up(engine, args, device, group, name, run)
    except BaseException:
        if not existed and group.rank == 0:
            shutil.rmtree(run, ignore_errors=True)  # a run that never started leaves no folder
        raise
    begun, first = time.monotonic(), trainer.relay.iter
    try:
        means = trainer.train() or {}
        report.say(
            summary(
                name,
                time.monotonic() - begun,
                trainer.relay.iter - first,
                top_errors(net_param, means),
                trainer.images_tested,
                run,
            )
        )
    finally:
        report.close()
    group.first(None)  # a launcher ends the others when one has ended: the first has saved now
    return trainer.status


def set_up(engine, args, device, group, name, run):
    """Everything that can go wrong before the first iteration."""
    if not args.default_allocator:
        engine.keep_freed_memory()
    path, relay_path, note = prepare(engine.pb, args, run, group)
    extra = args.extra if args.solver else run_folder.extra_of(run)
    solver = engine.make_solver(path, extra)
    for weights in args.weights.split(",") if args.weights else []:
        solver.net.copy_from(weights)
    group.adopt(solver)
    param = solver.param
    net_param = run_folder.read(param.net or param.train_net, engine.pb.NetParameter())
    report = Report(run, name, param.max_iter, param.display) if group.rank == 0 else NoReport()

    def probe(schedule):
        return Probe(schedule, args.probe, run, report.events)

    relay = attach(
        solver,
        relay_path,
        fused=not args.no_fuse,
        group=group,
        after_forward=probe if args.probe and group.rank == 0 else None,
    )
    if note:
        report.say(note)
    places = device + (f" x {group.size}" if group.size > 1 else "")
    report.say(f"{name} on {places}, {relay.schedule.describe()}")
    if args.snapshot:
        relay.restore(args.snapshot)
    for net in [solver.net, *solver.test_nets]:  # nobody looks inside between iterations
        engine.keep_values(net, args.no_fuse, args.no_fuse or param.snapshot_diff)
    return Trainer(relay, report), report, net_param


def prepare(pb, args, run, group):
    """(solver's path, relay file's path or None, a line to print) for the run.

    The first of several processes writes the files, the others wait for them.
    """
    if args.solver:
        os.makedirs(run, exist_ok=True)
        return args.solver, args.relay, ""
    folder, method = models.find(args.model)
    if args.relay and method != "RELAY":
        raise RelayError(
            f"--relay {args.relay}: model {args.model} has no flows; name it with _relay"
        )
    relay_path, relay = None, None
    if method == "RELAY":
        relay_path = args.relay or os.path.join(folder, "relay.prototxt")
        relay = relay_file.read_relay(relay_path)
    profile = args.profile or ("full" if args.data else "short")
    settings, batch, crop, note = list(args.set), args.batch, args.crop, ""
    if profile == "short":
        settings = SHORT + settings
        least = LEAST_CROP.get(os.path.basename(folder), SHORT_CROP)
        if not args.data and least > DEMO_SIZE:
            raise RelayError(
                f"{args.model} needs images of {least} pixels and more, and the demo "
                f"scenes have {DEMO_SIZE}; give DATA=/path/to/lmdbs"
            )
        batch, crop = batch or SHORT_BATCH, crop or least
        note = short_note(settings, batch, crop, args.data)
    if group.rank == 0:
        data = args.data or make_demo()
        run_folder.prepare(
            pb, folder, method, run, data, settings, batch, crop, args.feed, args.scene
        )
        if relay:
            run_folder.write(os.path.join(run, "relay.prototxt"), relay)
    group.first(None)
    return os.path.join(run, "solver.prototxt"), relay_path, note


def short_note(settings, batch, crop, data):
    """One line that says what the short profile is and how to leave it."""
    iterations = dict(setting.split("=", 1) for setting in settings)["max_iter"]
    return (
        f"Short profile: {iterations} iterations of {batch} images at {crop}x{crop} on "
        f"{data or 'the demo scenes'}; PROFILE=full runs the whole schedule, "
        "DATA=/path/to/lmdbs your images."
    )


def make_demo():
    """Draw the demo scenes unless they exist."""
    if not os.path.exists(os.path.join(DEMO, "color.txt")):
        print(f"Drawing the demo scenes into {DEMO}", flush=True)
        subprocess.run([sys.executable, "-m", "relaybp.data_prep.demo_scenes", DEMO], check=True)
    return DEMO
