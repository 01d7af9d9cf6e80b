#!/usr/bin/env python3
"""Inference beside other engines, in one run, on the same nets and weights.

    python benchmarks/inference.py --nets resnet50,googlenet --batches 1,8 --rounds 5
    python benchmarks/inference.py ... --bvlc "command prefix that runs a command in BVLC Caffe"

The peers: this project's `caffe` with keep_blobs = False, also as `caffe_bf16`; `onnxruntime` on
the project's own export; `opencv`, its reader of Caffe models; PyTorch `eager`, channels last; the
same under `compile` (max-autotune); `bvlc`. A peer that is not installed is left out. All get an
array and give one. The processes of all peers take turns, --rounds times, so that a slow minute of
the machine affects all of them. Prints, in ms, the median of the rounds' medians and of their 99th
percentiles, the time of a peer over this project's round by round, and the peak memory.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import time

import numpy as np

import train_step

PEERS = ("caffe", "caffe_bf16", "onnxruntime", "opencv", "eager", "compile", "bvlc")
NEEDS = {"onnxruntime": "onnxruntime", "opencv": "cv2"}
FOLDER = os.path.join(train_step.ROOT, "build", "benchmark", "inference")
CLOCKS = {"wall": time.perf_counter, "thread": time.thread_time}
NETS = "caffenet,googlenet,resnet50,vgg16,mobilenet,inception_v3"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nets", default=NETS)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each process, warmed up")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="thread: the calling thread's time on a CPU; with --threads 1, for a busy machine",
    )
    parser.add_argument("--bvlc", help="runs a command under BVLC Caffe, for the peer bvlc")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = arguments()
    if args.child:
        peer, name, batch = args.child.split(":")
        print("RESULT " + json.dumps(child(args, peer, name, int(batch))))
        return
    peers = [peer for peer in args.peers.split(",") if _is_installed(args, peer)]
    print(
        f"{args.rounds} rounds of {args.seconds:g} s, {args.threads} threads, {args.clock} clock; ",
        end="",
    )
    print(train_step.hardware())
    ratios = {peer: [] for peer in peers}
    for name in args.nets.split(","):
        for batch in map(int, args.batches.split(",")):
            prepare(name, batch)
            results = {peer: [] for peer in peers}
            for _ in range(args.rounds):
                for peer in peers:
                    what = f"{peer}:{name}:{batch}"
                    results[peer].append(train_step.run_child(args, peer, what, what))
            report(name, batch, results, ratios)
    print("\ngeometric mean of the times over those of caffe, and the least:")
    for peer, values in ratios.items():
        mean = math.exp(statistics.mean(map(math.log, values)))
        print(f"{peer:14} {mean:6.2f} {min(values):6.2f}")


def _is_installed(args, peer):
    if peer == "bvlc":
        return bool(args.bvlc)
    return peer not in NEEDS or importlib.util.find_spec(NEEDS[peer]) is not None


def prepare(name, batch):
    """Write what the peers read."""
    import inference_nets

    path, weights = inference_nets.prepare(name, batch, FOLDER)
    exported = os.path.join(FOLDER, f"{name}.onnx")
    if importlib.util.find_spec("onnx") and not os.path.exists(exported):
        import onnx

        import caffe
        from relaybp.commands.export_onnx import to_onnx

        onnx.save(to_onnx(caffe.Net(path, caffe.TEST, weights=weights)), exported)


def child(args, peer, name, batch):
    """{"ms": median, "p99_ms", "peak_bytes", "sum": of the outputs} of one peer."""
    paths = [os.path.join(FOLDER, f"{name}{end}") for end in (f"_{batch}.prototxt", ".caffemodel")]
    run, shape = MAKERS[peer](args, name, *paths)
    images = np.random.RandomState(1).randn(batch, *shape[1:]).astype(np.float32)
    for _ in range(3):
        scores = run(images)
    peak = train_step.Peak("cpu")
    peak.reset()
    clock, times, end = CLOCKS[args.clock], [], time.perf_counter() + args.seconds
    while len(times) < 10 or time.perf_counter() < end:
        begun = clock()
        run(images)
        times.append(1e3 * (clock() - begun))
    return {
        "ms": statistics.median(times),
        "p99_ms": float(np.percentile(times, 99)),
        "peak_bytes": peak(),
        "scores": [float(value) for value in np.ravel(scores)[:1000]],
    }


def make_caffe(args, name, path, weights):
    """A net of this project, or of BVLC Caffe where that runs this."""
    import caffe

    net = caffe.Net(path, caffe.TEST, weights=weights)
    if hasattr(net, "keep_blobs"):
        import torch

        torch.set_num_threads(args.threads)
        caffe.keep_freed_memory()
        net.keep_blobs = False
    (output,) = net.outputs
    return lambda images: net.forward(data=images)[output], net.blobs["data"].shape


def make_caffe_bf16(args, name, path, weights):
    import caffe

    caffe.set_precision("bf16")
    return make_caffe(args, name, path, weights)


def make_onnxruntime(args, name, path, weights):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(
        os.path.join(FOLDER, f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run(None, {"data": images})[0], session.get_inputs()[0].shape


def make_opencv(args, name, path, weights):
    import cv2

    import caffe

    cv2.setNumThreads(args.threads)
    net = cv2.dnn.readNetFromCaffe(path, weights)

    def run(images):
        net.setInput(images)
        return net.forward()

    return run, caffe.Net(path, caffe.TEST).blobs["data"].shape


def make_eager(args, name, path, weights, compiled=False):
    import torch

    import caffe
    import peers

    torch.set_num_threads(args.threads)
    caffe.keep_freed_memory()
    net = caffe.Net(path, caffe.TEST, weights=weights)
    module = peers.Deployed(net).eval().to(memory_format=torch.channels_last)
    module = torch.compile(module, mode="max-autotune") if compiled else module

    @torch.inference_mode()
    def run(images):
        images = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        return module(images).numpy()

    return run, net.blobs["data"].shape


def make_compile(args, name, path, weights):
    return make_eager(args, name, path, weights, compiled=True)


MAKERS = {
    "caffe": make_caffe,
    "caffe_bf16": make_caffe_bf16,
    "onnxruntime": make_onnxruntime,
    "opencv": make_opencv,
    "eager": make_eager,
    "compile": make_compile,
    "bvlc": make_caffe,
}


def report(name, batch, results, ratios):
    """Print a table; append to `ratios` each peer's median ratio to caffe."""
    print(f"\n{name}, batch {batch}")
    print(f"{'':14} {'ms':>9} {'p99':>9} {'over caffe':>20} {'peak MB':>8} {'differs by':>10}")
    ours = results.get("caffe") or next(iter(results.values()))
    expected = np.array(ours[0]["scores"])
    for peer, rounds in results.items():
        times = [each["ms"] for each in rounds]
        found = [mine / own["ms"] for mine, own in zip(times, ours)]
        ratios[peer].append(statistics.median(found))
        tail = statistics.median([each["p99_ms"] for each in rounds])
        peak = max(each["peak_bytes"] for each in rounds) / 1e6
        difference = np.abs(np.array(rounds[0]["scores"]) - expected).max() / expected.max()
        print(
            f"{peer:14} {statistics.median(times):9.2f} {tail:9.2f} "
            f"{train_step.spread(found):>20} {peak:8.0f} {difference:10.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
