"""A plain network of 16 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain16
"""

from __future__ import annotations

from caffe.net_spec import NetSpec, Top
from relaybp.prototxt import cifar
from relaybp.prototxt.model import Model
from relaybp.prototxt.parts import SMALL, Branches, conv_relu, fc, pool

ABOUT = (
    """
A plain VGG-like network for CIFAR-10: 16 convolutions of 3x3 in three stages (5, 5, 6; 32, 64 and
128 wide), each stage max-pooled, then global average pooling and one fc. There is no BatchNorm and
no shortcut: depth hurts such a network, so auxiliary losses have something to improve.

One auxiliary branch is attached to `pool2`, after 10 of 16 convolutions. Its loss trains everything
below it, the primary loss everything from the top down to `conv2_1`; both train stage 2, as in
Model A of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016).

Choices made here:

"""
    + cifar.HEAD.format(norm="")
    + """\
- **Pixel scale:** `scale: 0.017`, about one over the pixels' standard deviation: without
  BatchNorm, MSRA initialisation carries the scale of the input to the scores.
- **Solver:** the paper's learning rate 0.01 and weight decay 0.0002; mini-batch 128; the rate is
  divided by 10 after 32,000 and 48,000 of 64,000 iterations. At 0.05 it does not start to learn.
- **Initialisation:** MSRA, the scores Gaussian (0.01); biases learn at twice the rate, undecayed.
"""
    + cifar.DATA
)

EXPECTED = """
No figure is published for this network. From seed to seed, 120 iterations lower the training loss
from 2.3 to about 1.9.
"""


def plain16(n: NetSpec, x: Top, branches: Branches) -> Top:
    """The scores; `branches` maps a pooling layer to what hangs on its top."""
    for stage, (depth, width) in enumerate(((5, 32), (5, 64), (6, 128)), 1):
        for index in range(1, depth + 1):
            x = conv_relu(n, f"conv{stage}_{index}", x, width, 3, pad=1)
        x = pool(n, f"pool{stage}", x, kernel_size=2, stride=2)
        if f"pool{stage}" in branches:
            branches[f"pool{stage}"](n, x)
    x = pool(n, "pool", x, "AVE", global_pooling=True)
    return fc(n, "fc", x, 10, weight_filler=SMALL)


MODEL = Model(
    title="Plain-16 for CIFAR",
    about=ABOUT,
    expected=EXPECTED,
    scores=plain16,
    branches={"pool2": cifar.head("aux", unit=conv_relu)},
    flows={"loss": "conv2_1", "aux_loss": "conv1_1"},
    crop_size=32,
    batch_size=128,
    test_batch_size=100,
    scale=0.017,
    solver={**cifar.SOLVER, "base_lr": 0.01, "weight_decay": 0.0002},
)
