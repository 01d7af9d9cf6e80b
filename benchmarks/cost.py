#!/usr/bin/env python3
"""The cost of an auxiliary loss: memory and time of a training step, and of the net at test time.

    python benchmarks/cost.py --model resnet50 --batch 4 --size 112
    python benchmarks/cost.py ... --bvlc "command prefix that runs a command in BVLC Caffe"

Peak memory is that of one process for each method, and on this engine that of its tensors too (in
another process, because counting them takes time). Times are processor seconds of one thread, which
other work on the machine hardly changes: the median of a process's steps, then of the rounds; the
processes take turns.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

from train_step import METHODS, caffe_step, hardware, result_of  # noqa: E402

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TEST_NETS = {"standard": ["standard"], "relay": []}  # method: stages of its TEST net


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--bvlc", help="runs a command under BVLC Caffe")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.gpu, args.precision = "none", "fp32"  # what caffe_step asks for
    return args


def main():
    args = arguments()
    if args.child:
        print("RESULT " + json.dumps(child(args, *args.child.split(":"))))
        return
    engines = ["caffe"] + ["bvlc"] * bool(args.bvlc)
    print(
        f"{args.model}, batch {args.batch}, {args.size}x{args.size}, fp32, {args.rounds} rounds "
        f"of {args.steps} steps; {hardware(args.gpu)}\n"
    )
    print(
        head(
            "engine",
            "training",
            "peak of the process, MB",
            "peak of tensors, MB",
            "processor s a step",
        )
    )
    for engine in engines:
        results = take_turns(args, engine, "step", METHODS)
        for method, rounds in results.items():
            tensors = (
                f"{run_child(args, engine, 'tensors', method)['peak_bytes'] / 1e6:.2f}"
                if (engine == "caffe")
                else ""
            )
            process = statistics.median(each["peak_bytes"] for each in rounds) / 1e6
            print(f"| {engine} | {method} | {process:.0f} | {tensors} | {seconds(rounds)} |")
    print("\n" + head("engine", "TEST net", "layers", "parameters", "processor ms an image"))
    for engine in engines:
        for method, rounds in take_turns(args, engine, "test", TEST_NETS).items():
            print(
                f"| {engine} | {method} | {rounds[0]['layers']} | {rounds[0]['parameters']:,} | "
                f"{seconds(rounds, 1e3 / args.batch)} |"
            )


def head(*columns):
    """The first two lines of a table."""
    return f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|"


def take_turns(args, engine, what, methods):
    """{method: [result of each round]}."""
    results = {method: [] for method in methods}
    for _ in range(args.rounds):
        for method in methods:
            results[method].append(run_child(args, engine, what, method))
    return results


def seconds(rounds, scale=1):
    """The median over the rounds, and their range."""
    values = [scale * each["seconds"] for each in rounds]
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def run_child(args, engine, what, method):
    prefix = shlex.split(args.bvlc) + ["python3"] if engine == "bvlc" else [sys.executable]
    command = [
        *prefix,
        os.path.abspath(__file__),
        *sys.argv[1:],
        "--child",
        f"{engine}:{what}:{method}",
    ]
    return result_of(
        command, {**os.environ, **dict.fromkeys(THREADS, "1")}, f"{engine} {what} {method}"
    )


def child(args, engine, what, method):
    """The figures of one process."""
    if what == "tensors":
        return {"peak_bytes": peak_of_tensors(args, engine, method)}
    if what == "test":
        return test_net(args, engine, TEST_NETS[method])
    step, peak = caffe_step(args, engine, method)
    step()
    return {"seconds": median_seconds(step, args.steps), "peak_bytes": peak()}


def peak_of_tensors(args, engine, method):
    """Bytes of all tensors that live at once, at most, in the third training step."""
    from live_bytes import LiveBytes

    with LiveBytes() as live:
        step, _ = caffe_step(args, engine, method)
        step()
        step()
        live.peak = live.now
        step()
        return live.peak


def test_net(args, engine, stages):
    """Layers, parameters and forward time of the TEST net of the model's train_val.prototxt."""
    import relay_cases
    from relaybp import engines, models, run_folder

    if engine == "bvlc":
        os.environ["CAFFE_ROOT"] = "/usr/lib/python3/dist-packages"
    loaded = engines.load()
    caffe, pb = loaded.caffe, loaded.pb
    loaded.use_device(args.gpu)
    folder, _ = models.find(args.model)
    net = run_folder.read(os.path.join(folder, "train_val.prototxt"), pb.NetParameter())
    net = relay_cases.with_inputs(pb, net, args.batch, args.size)
    net.state.stage.extend(stages)
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "net.prototxt")
        run_folder.write(path, net)
        net = caffe.Net(path, caffe.TEST)
    relay_cases.fill(net)
    last = len(net.layers) - 1

    def forward():
        net._forward(0, last)

    forward()
    return {
        "layers": len(net.layers),
        "seconds": median_seconds(forward, args.steps),
        "parameters": sum(blob.data.size for name, blobs in net.params.items() for blob in blobs),
    }


def median_seconds(function, times):
    """The median processor time of a call, over `times` calls."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        function()
        found.append(time.process_time() - begun)
    return statistics.median(found)


if __name__ == "__main__":
    main()
