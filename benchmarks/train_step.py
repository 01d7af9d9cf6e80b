#!/usr/bin/env python3
"""A training step of this project beside its peers, interleaved in one run.

    python benchmarks/train_step.py --model resnet50 --batch 8 --size 224 --precision fp32
    python benchmarks/train_step.py ... --bvlc "command prefix that runs a command in BVLC Caffe"

Every figure is the median of the steps of one process; the processes of all variants take turns,
--rounds times, so that a slow minute of the machine affects all of them. Prints images/s (median
and range over the rounds), the ratio to this project round by round, and the peak memory after the
warm-up. The peers: this project's `caffe`; PyTorch as it comes, `eager`; as a careful user sets it,
with a search for the fastest algorithms and a fused update, `eager_tuned`; that and torch.compile
with max-autotune, which on a GPU records CUDA graphs, `compile`; and `bvlc`.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

METHODS = {"standard": "", "multiloss": "_multiloss", "relay": "_relay"}
CLEAR_REFS = "/proc/self/clear_refs"  # Linux: resets the peak of a process


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--gpu", default="none")
    parser.add_argument("--methods", default="standard,multiloss,relay")
    parser.add_argument("--peers", default="caffe,eager,eager_tuned")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--bvlc", help="runs a command under BVLC Caffe, for the peer bvlc")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = arguments()
    if args.child:
        print("RESULT " + json.dumps(child(args, *args.child.split(":"))))
        return
    variants = [
        (peer, method) for peer in args.peers.split(",") for method in args.methods.split(",")
    ]
    results = {variant: [] for variant in variants}
    for _ in range(args.rounds):
        for variant in variants:
            results[variant].append(run_child(args, *variant))
    report(args, results)


def run_child(args, peer, method, child=None):
    """What the process of one variant prints, by the script that runs; `child` is its argument."""
    prefix = shlex.split(args.bvlc) + ["python3"] if peer == "bvlc" else [sys.executable]
    child = child or f"{peer}:{method}"
    command = [*prefix, os.path.abspath(sys.argv[0]), *sys.argv[1:], "--child", child]
    environment = {
        key: value for key, value in os.environ.items() if peer != "bvlc" or key != "PYTHONPATH"
    }  # which may lead to this Caffe
    return result_of(command, environment, f"{peer} {method}")


def result_of(command, environment, what):
    """What a process prints as JSON in its last line that begins with RESULT."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{what}: {done.stderr[-2000:]}")
    return json.loads(lines[-1][7:])


def child(args, peer, method):
    """{"images_per_s": median over steps, "peak_bytes": during them} of one variant."""
    step, peak = make_step(args, peer, method)
    warm_up(args, step)
    peak.reset()
    times = []
    for _ in range(args.steps):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return {"images_per_s": args.batch / statistics.median(times), "peak_bytes": peak()}


def make_step(args, peer, method):
    """A step of a variant, and the Peak of its memory."""
    return (caffe_step if peer in ("caffe", "bvlc") else torch_step)(args, peer, method)


def warm_up(args, step):
    """Run a step until it is as fast as it gets: compiled, algorithms chosen, recorded."""
    for _ in range(2 if args.gpu == "none" else 8):
        step()


def caffe_step(args, peer, method):
    """A step of the project's driver, on this engine or on BVLC Caffe."""
    import relay_cases
    from relaybp import engines, flows

    if peer == "bvlc":  # the Caffe that this Python finds by itself
        os.environ["CAFFE_ROOT"] = os.path.dirname(
            os.path.dirname(importlib.util.find_spec("caffe").origin)
        )
    engine = engines.load()
    device = engine.use_device(args.gpu, args.precision if peer == "caffe" else "fp32")
    engine.keep_freed_memory()
    folder = os.path.join(ROOT, "build", "benchmark")
    os.makedirs(folder, exist_ok=True)
    relay_cases.CASES["benchmark"] = (args.model + METHODS[method], None)
    path, relay, param = relay_cases.prepare(
        engine.caffe, "benchmark", folder, args.batch, args.size
    )
    solver = engine.make_solver(path)
    net = solver.net
    engine.keep_values(net, blobs=False, diffs=False)  # as in tools/train.py
    relay_cases.fill(net)
    planned = None if relay is None else flows.plan(net, relay, param)
    run = engine.backward(net, planned)

    def step():
        net.clear_param_diffs()
        engine.forward(net)
        run()
        solver.apply_update()
        synchronize(device)

    return step, Peak(device)


def torch_step(args, peer, method):
    """A step of PyTorch: the same network, layout, precision and ranges."""
    import torch

    import relay_cases
    from peers import Peer, train_step
    from relaybp import engines, flows

    caffe, tuned = engines.load().caffe, peer != "eager"
    if tuned:
        caffe.keep_freed_memory()
        torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
        args.precision == "tf32"
    )
    folder = os.path.join(ROOT, "build", "benchmark")
    os.makedirs(folder, exist_ok=True)
    relay_cases.CASES["benchmark"] = (args.model + METHODS[method], None)
    path, relay, param = relay_cases.prepare(caffe, "benchmark", folder, args.batch, args.size)
    net = caffe.get_solver(path).net
    shapes = {name: blob.shape for name, blob in net.blobs.items()}
    place = "cpu" if args.gpu == "none" else f"cuda:{args.gpu}"
    if place != "cpu":
        torch.cuda.set_device(place)
    module = Peer(param, shapes, method == "standard").to(place, memory_format=torch.channels_last)
    ranges = None
    if relay is not None:
        planned = flows.plan(net, relay, param)
        ranges = [
            (
                flow.loss,
                [
                    p
                    for key, part in module.parts.items()
                    for p in part.parameters()
                    if net._layer_names.index(module.layer_of[key]) in flow.layers
                ],
            )
            for flow in planned
        ]
    del net
    run = compiled(module, ranges) if peer == "compile" else module
    optimizer = torch.optim.SGD(
        module.parameters(), 0.01, momentum=0.9, weight_decay=2e-4, fused=tuned or None
    )
    images = torch.randn(args.batch, 3, args.size, args.size, device=place).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.randint(0, 5, (args.batch,), device=place)

    def step():
        train_step(run, optimizer, images, labels, ranges, args.precision == "bf16")
        synchronize(place)

    return step, Peak(place)


def synchronize(device):
    if str(device) not in ("cpu", "CPU"):
        import torch

        torch.cuda.synchronize()


def compiled(module, ranges):
    """A function of images and labels: the module under torch.compile, as fast as that makes it."""
    import torch
    from torch._functorch import config

    # a backward pass for each range keeps the graph, which donated buffers forbid
    config.donated_buffer = ranges is None
    run = torch.compile(module, mode="max-autotune")

    def forward(images, labels):
        torch.compiler.cudagraph_mark_step_begin()
        return run(images, labels)

    return forward


class Peak:
    """Call it for the peak memory in bytes since `reset`: of the GPU's tensors, or the process."""

    def __init__(self, device):
        self._on_gpu = str(device) not in ("cpu", "CPU")

    def reset(self):
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif os.path.exists(CLEAR_REFS):
            with open(CLEAR_REFS, "w") as file:
                file.write("5")  # the peak resident set, see proc(5)

    def __call__(self):
        if self._on_gpu:
            import torch

            return torch.cuda.max_memory_allocated()
        if not os.path.exists(CLEAR_REFS):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        with open("/proc/self/status") as file:
            peak = next(line for line in file if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024


def report(args, results):
    print(
        f"{args.model}, batch {args.batch}, {args.size}x{args.size}, {args.precision}, "
        f"{args.rounds} rounds of {args.steps} steps; {hardware(args.gpu)}"
    )
    print(f"{'':24} {'images/s':>20} {'caffe is':>16} {'peak MB':>9}")
    for (peer, method), rounds in results.items():
        speeds = [each["images_per_s"] for each in rounds]
        ours = [each["images_per_s"] for each in results.get(("caffe", method), rounds)]
        ratios = [a / b for a, b in zip(ours, speeds)]
        peak = max(each["peak_bytes"] for each in rounds) / 1e6
        print(
            f"{peer + ' ' + method:24} {spread(speeds):>20} {spread(ratios) + ' x':>16} {peak:9.0f}"
        )
    for peer in args.peers.split(","):
        if (peer, "relay") in results and (peer, "standard") in results:
            cost = [
                b["images_per_s"] / a["images_per_s"]
                for a, b in zip(results[peer, "relay"], results[peer, "standard"])
            ]
            print(f"relay / standard, time, {peer}: {spread(cost)}")


def spread(values):
    """median (least to greatest)."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def hardware(gpu="none"):
    import torch

    if gpu != "none":
        return f"{torch.cuda.get_device_name(int(gpu))}, torch {torch.__version__}"
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return (
        f"{os.cpu_count()} cores {names[0] if names else platform.processor()}, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
