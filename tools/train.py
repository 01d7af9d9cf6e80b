#!/usr/bin/env python3
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
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from relaybp import engine, flows, models, relay_file, run_folder  # noqa: E402
from relaybp.backward import choose  # noqa: E402
from relaybp.errors import RelayError  # noqa: E402
from relaybp.report import Report  # noqa: E402
from relaybp.trainer import Trainer, summary, top_errors  # noqa: E402

DEMO = os.path.join("data", "demo")
SHORT = ["max_iter=120", "base_lr=0.02", "lr_policy=fixed", "iter_size=1", "display=5",
         "test_interval=60", "test_initialization=false", "snapshot=60"]
SHORT_BATCH, SHORT_CROP = 16, 112


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a name below prototxt/, as `make models` lists")
    what.add_argument("--solver", help="a solver.prototxt of your own")
    parser.add_argument("--relay", help="a relay.prototxt for --solver")
    parser.add_argument("--data", help="folder with train_lmdb, val_lmdb, mean.binaryproto")
    parser.add_argument("--profile", choices=("short", "full"),
                        help="short without --data, else full")
    parser.add_argument("--batch", type=int, help="images per forward pass")
    parser.add_argument("--crop", type=int, help="pixels a side of the crop")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        help="another value for a solver field")
    parser.add_argument("--weights", help="start from these .caffemodel files (comma-separated)")
    parser.add_argument("--snapshot", help="continue from this .solverstate")
    parser.add_argument("--gpu", default="auto", help="auto, none, or a GPU index")
    parser.add_argument("--precision", default="fp32", help="fp32, tf32 or bf16")
    parser.add_argument("--no-fuse", action="store_true", help="one BackwardFromTo per range")
    parser.add_argument("--run", help="the run's folder")
    return parser.parse_args()


def main():
    args = arguments()
    try:
        caffe = engine.load()
        train(caffe, args)
    except (RelayError, getattr(sys.modules.get("caffe"), "CaffeError", RelayError)) as error:
        sys.exit(f"train: {error}")


def train(caffe, args):
    name = args.model or os.path.splitext(os.path.basename(args.solver))[0]
    device = engine.use_device(caffe, args.gpu, args.precision)
    run = args.run or os.path.join("runs", "{}-{}".format(name, time.strftime("%Y%m%d-%H%M%S")))
    path, relay, note = prepare(caffe, args, run)
    pb = caffe.proto.caffe_pb2
    param = run_folder.read(path, pb.SolverParameter())
    solver = engine.make_solver(caffe, path)
    for weights in args.weights.split(",") if args.weights else []:
        solver.net.copy_from(weights)
    if args.snapshot:
        solver.restore(args.snapshot)
    net_param = run_folder.read(param.net or param.train_net, pb.NetParameter())
    planned = plan_flows(solver.net, net_param, relay, args)
    report = Report(run, name, param.max_iter, param.display)
    try:
        if note:
            report.say(note)
        report.say(f"{name} on {device}, {describe(planned)}")
        trainer = Trainer(solver, param, choose(solver.net, planned, not args.no_fuse), report)
        begun, first = time.monotonic(), solver.iter
        means = trainer.train() or {}
        tested = sum(param.test_iter) * (
            next(iter(solver.test_nets[0].blobs.values())).shape[0] if param.test_iter else 0)
        report.say(summary(name, time.monotonic() - begun, solver.iter - first,
                           top_errors(net_param, means), tested, run))
    finally:
        report.close()


def prepare(caffe, args, run):
    """(solver path, RelayParameter or None, a line to say) of what is to be trained."""
    if args.solver:
        relay = relay_file.read_relay(args.relay) if args.relay else None
        os.makedirs(run, exist_ok=True)
        return args.solver, relay, ""
    folder, method = models.find(args.model)
    relay_path = os.path.join(folder, "relay.prototxt")
    relay = relay_file.read_relay(relay_path) if method == "RELAY" else None
    profile = args.profile or ("full" if args.data else "short")
    data, note = args.data, ""
    settings, batch, crop = list(args.set), args.batch, args.crop
    if not data:
        data = make_demo()
    if profile == "short":
        settings = SHORT + settings
        batch, crop = batch or SHORT_BATCH, crop or SHORT_CROP
        note = ("Short profile: %d iterations of %d images at %dx%d on the demo scenes; "
                "PROFILE=full runs the whole schedule, DATA=/path/to/lmdbs your images."
                % (int(dict(s.split("=", 1) for s in settings)["max_iter"]), batch, crop, crop))
    path = run_folder.prepare(caffe.proto.caffe_pb2, folder, method, run, data, settings, batch,
                              crop)
    if relay:
        run_folder.write(os.path.join(run, "relay.prototxt"), relay)
    return path, relay, note


def make_demo():
    """Draw the demo scenes unless they are there."""
    if not os.path.exists(os.path.join(DEMO, "mean.binaryproto")):
        print(f"Drawing the demo scenes into {DEMO}", flush=True)
        subprocess.run([sys.executable, os.path.join(ROOT, "data_prep", "demo_scenes.py"), DEMO],
                       check=True)
    return DEMO


def plan_flows(net, net_param, relay, args):
    """The flows of a relay file; None where every loss trains every layer below it."""
    if relay is None or relay_file.schedule_name(relay) != "RELAY":
        return None
    return flows.plan(net, relay, flows.frozen_layers(net_param),
                      args.relay or f"{args.model}'s relay.prototxt")


def describe(planned):
    if planned is None:
        return "every loss trains every layer below it"
    return "; ".join(f"{flow.loss} trains down to {flow.to}" for flow in planned)


if __name__ == "__main__":
    main()
