"""Networks for CIFAR without BatchNorm and shortcuts: plain ones of any depth, and inception."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L

from . import cifar
from .model import Model, Trunk
from .parts import SMALL, Branches, conv_relu, fc, pool

WIDTHS = (32, 64, 128)
UNNORMALISED = (
    cifar.HEAD.format(norm="")
    + """\
- **Pixel scale:** `scale: 0.017`, about one over the pixels' standard deviation: without
  BatchNorm, MSRA initialisation carries the scale of the input to the scores.
- **Solver:** the paper's learning rate 0.01 and weight decay 0.0002; mini-batch 128; the rate is
  divided by 10 after 32,000 and 48,000 of 64,000 iterations. At 0.05 it does not start to learn.
- **Initialisation:** MSRA, the scores Gaussian (0.01); biases learn at twice the rate, undecayed.
"""
)
PLAIN = """
A plain VGG-like network for CIFAR-10: {depth} convolutions of 3x3 in three stages ({depths}; 32, 64
and 128 wide), each stage max-pooled, then global average pooling and one fc. There is no BatchNorm
and no shortcut: depth hurts such a network, so auxiliary losses have something to improve.

One auxiliary branch is attached to `pool2`, after {below} of {depth} convolutions. Its loss trains
everything below it, the primary loss everything from the top down to `conv2_1`; both train stage 2,
as in Model A of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016).
"""
NOTHING = """
No figure is published for this network. {more}
"""


def plain(depths: Sequence[int], more: str = "") -> Model:
    """The Model of three stages of `depths` convolutions; more: a sentence on what to expect."""
    about = PLAIN.format(
        depth=sum(depths), depths=", ".join(map(str, depths)), below=sum(depths[:2])
    )
    return without_batch_norm(
        f"Plain-{sum(depths)} for CIFAR", about, partial(stages, depths=depths), "conv2_1", more
    )


def without_batch_norm(
    title: str, about: str, scores: Trunk, overlap: str, more: str = "", lowest: str = "conv1_1"
) -> Model:
    """The Model of a network with a branch on `pool2`.

    overlap: the layer that the primary loss trains down to; lowest: the one of the auxiliary loss.
    """
    return Model(
        title=title,
        about=about + "\nChoices made here:\n\n" + UNNORMALISED + cifar.DATA,
        expected=NOTHING.format(more=more),
        scores=scores,
        branches={"pool2": cifar.head("aux", unit=conv_relu)},
        flows={"loss": overlap, "aux_loss": lowest},
        crop_size=32,
        batch_size=128,
        test_batch_size=100,
        scale=0.017,
        solver={**cifar.SOLVER, "base_lr": 0.01, "weight_decay": 0.0002},
    )


def stages(n: NetSpec, x: Top, branches: Branches, depths: Sequence[int]) -> Top:
    """The scores; `branches` maps a pooling layer to what hangs on its top."""
    for stage, (depth, width) in enumerate(zip(depths, WIDTHS), 1):
        for index in range(1, depth + 1):
            x = conv_relu(n, f"conv{stage}_{index}", x, width, 3, pad=1)
        x = pool(n, f"pool{stage}", x, kernel_size=2, stride=2)
        if f"pool{stage}" in branches:
            branches[f"pool{stage}"](n, x)
    return _top(n, x)


def inception_stages(
    n: NetSpec, x: Top, branches: Branches, modules: Sequence[int], widths: Sequence[int]
) -> Top:
    """The scores of a 3x3 convolution and stages of `modules` inception modules of k = `widths`."""
    x = conv_relu(n, "conv1", x, 32, 3, pad=1)
    for stage, (count, k) in enumerate(zip(modules, widths), 1):
        for letter in "abcdefgh"[:count]:
            x = inception(n, f"inception{stage}{letter}", x, k)
        x = pool(n, f"pool{stage}", x, kernel_size=2, stride=2)
        if f"pool{stage}" in branches:
            branches[f"pool{stage}"](n, x)
    return _top(n, x)


def inception(n: NetSpec, name: str, x: Top, k: int) -> Top:
    """The relay paper's inception module: 1x1, 3x3 and twice 3x3, side by side."""
    one = conv_relu(n, f"{name}_1x1", x, k, 1)
    three = conv_relu(n, f"{name}_3x3", x, k, 3, pad=1)
    double = conv_relu(n, f"{name}_double3x3a", x, 2 * k, 3, pad=1)
    double = conv_relu(n, f"{name}_double3x3b", double, 2 * k, 3, pad=1)
    n[name] = L.Concat(one, three, double)
    return n[name]


def _top(n: NetSpec, x: Top) -> Top:
    return fc(n, "fc", pool(n, "pool", x, "AVE", global_pooling=True), 10, weight_filler=SMALL)
