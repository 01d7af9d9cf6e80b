#!/usr/bin/env python3
"""The engine's own CPU kernels beside the plain ways, operation by operation.

    python benchmarks/kernels.py [--only weight_gradients]

The plain way is PyTorch's, or two calls where the engine has one. Both ways take turns; the output
is the medians in us, and the median of the turn-by-turn ratios with their quartiles. Which way a
net takes is measured where it runs (`caffe.kernels.choice`); `caffe time` shows it.
"""

import argparse
import os
import statistics
import sys

import torch

import paired
import train_step

sys.path.insert(0, os.path.join(train_step.ROOT, "python"))

import caffe
from caffe.kernels import cpu, products

aten = torch.ops.aten
SAME = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)  # a 3 x 3 convolution's stride, pad, ...
BOTH = (torch.bfloat16, torch.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", choices=FAMILIES, help="one family of operations")
    parser.add_argument("--turns", type=int, default=40)
    args = parser.parse_args()
    caffe.keep_freed_memory()
    print(f"{args.turns} turns; {train_step.hardware()}")
    for name in [args.only] if args.only else FAMILIES:
        print(f"\n{name:44} {'plain us':>10} {'own us':>8}   ratio (quartiles)")
        for what, theirs, ours in FAMILIES[name]():
            turns = [paired.timed((theirs, ours), number % 2) for number in range(args.turns)]
            report(what, *zip(*turns, strict=True))


def report(what, theirs, ours):
    low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)])
    print(
        f"{what:44} {1e6 * statistics.median(theirs):10.0f} {1e6 * statistics.median(ours):8.0f}"
        f"   {middle:.2f} ({low:.2f}-{high:.2f})"
    )


def images(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def label(dtype, *sizes):
    return f"{str(dtype)[6:]:9} " + " x ".join(map(str, sizes))


def weight_gradients():
    """The gradient of 3 x 3 weights: oneDNN's, and as a matrix product."""
    for dtype in BOTH:
        for count, channels, side in (
            (8, 512, 7),
            (32, 512, 7),
            (8, 384, 8),
            (8, 512, 14),
            (8, 256, 14),
            (8, 128, 14),
            (8, 192, 17),
            (8, 128, 28),
            (128, 64, 8),
        ):
            x, dy = (images(count, channels, side, side, dtype=dtype) for _ in range(2))
            weight = images(channels, channels, 3, 3, dtype=dtype)
            yield (
                label(dtype, count, channels, side, side),
                lambda x=x, dy=dy, w=weight: aten.convolution_backward(
                    dy, x, w, None, *SAME, (False, True, False)
                ),
                lambda x=x, dy=dy: products.kernel_gradient(dy, x, (3, 3), (1, 1)),
            )


def inner_products():
    """The gradient of an InnerProduct's weights in fp32, from bf16: rounded and unrounded."""
    for rows in (8, 32, 64):
        x, dy = (torch.randn(rows, size).bfloat16() for size in (2048, 1024))
        yield (
            f"{rows} rows, 1024 x 2048",
            lambda x=x, dy=dy: torch.empty(1024, 2048).copy_(dy.T @ x),
            lambda x=x, dy=dy: dy.float().T @ x.float(),
        )


def small_convolutions():
    """3 x 3 convolutions of few channels, forward and backward."""
    for count in (4, 128):
        for channels, side in ((16, 32), (32, 16), (64, 8)):
            x, dy = (images(count, channels, side, side) for _ in range(2))
            weight = images(channels, channels, 3, 3)
            yield (
                label(x.dtype, count, channels, side, side),
                lambda x=x, dy=dy, w=weight: (
                    torch.convolution(x, w, None, *SAME),
                    aten.convolution_backward(dy, x, w, None, *SAME, (True, True, False)),
                ),
                lambda x=x, dy=dy, w=weight: (
                    cpu.convolve_3x3(x, w),
                    cpu.convolve_3x3_data_gradient(dy, x, w),
                    cpu.convolve_3x3_weight_gradient(dy, x, w),
                ),
            )


def max_pools():
    """Forward and backward."""
    for dtype in BOTH:
        for shape, kernel, stride, pad in POOLS:
            x, rule = images(*shape, dtype=dtype), ((kernel,) * 2, (stride,) * 2, (pad,) * 2)
            y, places = aten.max_pool2d_with_indices(x, *rule, (1, 1), True)
            sizes, dy = tuple(y.shape[2:]), images(*y.shape, dtype=dtype)
            own = cpu.max_pool(x, *rule, sizes)[1]
            yield (
                label(dtype, *shape) + f", {kernel} by {stride}",
                lambda x=x, dy=dy, rule=rule, places=places: (
                    aten.max_pool2d_with_indices(x, *rule, (1, 1), True),
                    aten.max_pool2d_with_indices_backward(dy, x, *rule, (1, 1), True, places),
                ),
                lambda x=x, dy=dy, rule=rule, sizes=sizes, own=own: (
                    cpu.max_pool(x, *rule, sizes),
                    cpu.max_pool_backward(dy, own, *rule, x.shape[2:]),
                ),
            )


def average_pools():
    """Forward and backward."""
    for dtype in BOTH:
        for shape, kernel, stride, pad in POOLS:
            x, rule = images(*shape, dtype=dtype), ((kernel,) * 2, (stride,) * 2, (pad,) * 2)
            y = aten.avg_pool2d(x, *rule, True)
            sizes, dy = tuple(y.shape[2:]), images(*y.shape, dtype=dtype)
            yield (
                label(dtype, *shape) + f", {kernel} by {stride}",
                lambda x=x, dy=dy, rule=rule: (
                    aten.avg_pool2d(x, *rule, True),
                    aten.avg_pool2d_backward(dy, x, *rule, True, True, None),
                ),
                lambda x=x, dy=dy, rule=rule, sizes=sizes: (
                    cpu.average_pool(x, *rule, sizes),
                    cpu.average_pool_backward(dy, *rule, x.shape[2:]),
                ),
            )


POOLS = (
    ((8, 64, 112, 112), 3, 2, 0),
    ((8, 1024, 14, 14), 5, 3, 0),
    ((8, 192, 35, 35), 3, 1, 1),
    ((4, 512, 14, 14), 2, 2, 0),
)


def split_diffs():
    """Below a residual block: two diffs added first, and within the normalization's backward."""
    yield from _normalizations(
        lambda one, two: ([(one + two, None, True)],), lambda one, two: ([(one, two, True)],)
    )


def flow_pairs():
    """Two flows through a residual block's end: one after the other, and in one pass."""
    yield from _normalizations(
        lambda one, two: ([(one, None, True)], [(two, None, True)]),
        lambda one, two: ([(one, None, True), (two, None, True)],),
    )


def _normalizations(theirs, ours):
    """Both columns use the engine's kernels: calls for different lists of flows."""
    for dtype in BOTH:
        for shape in ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14), (128, 16, 32, 32)):
            x, y, one, two = (images(*shape, dtype=dtype) for _ in range(4))
            scale, mean, saved = torch.rand(shape[1]), torch.rand(shape[1]), torch.rand(3, shape[1])

            def run(calls, x=x, y=y, one=one, two=two, scale=scale, mean=mean, saved=saved):
                for flows in calls(one, two):
                    cpu.normalize_backward(flows, x, scale, mean, saved, own_statistics=True, top=y)

            yield (label(dtype, *shape), lambda run=run: run(theirs), lambda run=run: run(ours))


FAMILIES = {
    each.__name__: each
    for each in (
        weight_gradients,
        inner_products,
        small_convolutions,
        max_pools,
        average_pools,
        split_diffs,
        flow_pairs,
    )
}


if __name__ == "__main__":
    main()
