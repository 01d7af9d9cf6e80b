#!/usr/bin/env python3
"""Two variants of a training step in one process, a step each in turn.

    python benchmarks/paired.py --model resnet50 --precision bf16 caffe:standard caffe:relay

Variants are PEER:METHOD as in train_step.py. They share the process and so the allocator's
settings: if the peer caffe is among them, `eager` is `eager_tuned`. Every other pair starts with
the second, so that neither always follows the other. Prints the time of the second over that of the
first, pair by pair: the median, its standard error by resampling, the quartiles.
"""

import argparse
import random
import statistics
import time

import train_step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("variants", nargs=2, metavar="PEER:METHOD")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    args.gpu = "none"
    steps = [train_step.make_step(args, *variant.split(":"))[0] for variant in args.variants]
    for step in steps * 3:  # warm up
        step()
    pairs = [timed(steps, first=number % 2) for number in range(args.pairs)]
    report(args, pairs)


def timed(steps, first):
    """Seconds of a step of each, measured in turn from `first` on."""
    seconds = [0.0, 0.0]
    for index in (first, 1 - first):
        begun = time.perf_counter()
        steps[index]()
        seconds[index] = time.perf_counter() - begun
    return seconds


def report(args, pairs):
    print(
        f"{args.model}, batch {args.batch}, {args.size}x{args.size}, {args.precision}, "
        f"{len(pairs)} pairs; {train_step.hardware(args.gpu)}"
    )
    for name, seconds in zip(args.variants, zip(*pairs, strict=True), strict=True):
        print(
            f"{name:20} {1e3 * statistics.median(seconds):8.1f} ms, least {1e3 * min(seconds):8.1f}"
        )
    ratios = [second / first for first, second in pairs]
    medians = [statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(1000)]
    low, _, high = statistics.quantiles(ratios, n=4)
    print(
        f"second / first, time: {statistics.median(ratios):.3f} "
        f"+- {statistics.stdev(medians):.3f}, quartiles {low:.3f}-{high:.3f}"
    )


if __name__ == "__main__":
    main()
