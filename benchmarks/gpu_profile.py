#!/usr/bin/env python3
"""Where a training step's time on a GPU goes: the kernels of one step, by kind.

python benchmarks/gpu_profile.py --model resnet50 --batch 128 --precision bf16 --method relay
"""

import argparse
import time

import train_step

KINDS = {  # the first whose words are part of a kernel's name
    "normalization": ("sum_backward", "normalize", "measure", "finish_", "batch_norm"),
    "pooling": ("pool",),
    "sums of diffs": ("CUDAFunctor_add", "CUDAFunctorOnSelf_add"),
    "update, rounding, copies": ("multi_tensor", "direct_copy", "fused_sgd", "memcpy", "Memcpy"),
    "convolutions, products": (
        "nvjet",
        "cutlass",
        "xmma",
        "gemm",
        "conv",
        "wgrad",
        "dgrad",
        "nhwc",
        "Nhwc",
        "nchw",
        "cudnn",
        "fft",
        "splitK",
    ),
    "other": ("",),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--method", default="relay", choices=train_step.METHODS)
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


def main():
    args = arguments()
    step, peak = train_step.make_step(args, "caffe", args.method)
    train_step.warm_up(args, step)
    peak.reset()
    begun = time.perf_counter()
    for _ in range(args.steps):
        step()
    each = (time.perf_counter() - begun) / args.steps
    kernels = profiled(step)
    total = sum(ms for ms, _ in kernels.values())
    print(
        f"{args.model} {args.method}, batch {args.batch}, {args.size}x{args.size}, "
        f"{args.precision}: {1e3 * each:.2f} ms a step, {args.batch / each:.0f} images/s, "
        f"{peak() / 1e6:.0f} MB at most; {train_step.hardware(args.gpu)}"
    )
    for kind, (ms, count) in kernels.items():
        print(f"{kind:26} {ms:8.2f} ms {100 * ms / total:5.1f} % {count:6} kernels")
    print(f"{'all kernels':26} {total:8.2f} ms; the GPU waits for {1e3 * each - total:.2f} ms")


def profiled(step, steps=3):
    """{kind: (ms, launches)} of one step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for _ in range(steps):
            step()
    found = {kind: [0.0, 0] for kind in KINDS}
    for event in record.key_averages():
        if event.device_type.name == "CUDA" and "Optimizer" not in event.key:
            kind = next(
                kind for kind, words in KINDS.items() if any(word in event.key for word in words)
            )
            found[kind][0] += event.self_device_time_total / 1e3 / steps
            found[kind][1] += event.count // steps
    return found


if __name__ == "__main__":
    main()
