"""ResNet-200 for CIFAR with four auxiliary branches.

python -m relaybp.prototxt.generate resnet200_cifar
"""

from __future__ import annotations

from functools import partial

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L
from relaybp.prototxt import cifar, very_deep
from relaybp.prototxt.model import Model
from relaybp.prototxt.parts import Branch
from relaybp.prototxt.preact import preact_resnet, top

HUNG, FLOWS = very_deep.relay((33, 33, 33), overlap=8)

ABOUT = (
    """
A pre-activation ResNet of 200 layers for CIFAR-10 (three stages of 33 blocks of two 3x3
convolutions; 200 = 6 x 33 + 2), and four auxiliary branches: the extremely deep network with
several branches that the authors of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016) left as
future work, at a size that trains in hours.

"""
    + very_deep.table(HUNG, FLOWS)
    + """
The first branch is a third of the way up the 99 blocks; the others are spaced evenly above it.
Neighbouring losses share the eight blocks below each branch.

Choices made here:

- **Branches** are BatchNorm, ReLU, global average pooling, fc, like the network's own top. Loss
  weight 0.3 each.
- **Solver:** that of He et al. for ResNet-110, without its 400 slow iterations at the start.
"""
    + cifar.SHORTCUTS
    + cifar.PIXEL_SCALE
    + cifar.BATCH_NORM
    + cifar.DATA
)

EXPECTED = """
No figure is published for this network. For comparison, He et al. (ECCV 2016) report a CIFAR-10
test error of 6.37 % with 110 layers of this kind, and 5.46 % with 164 layers of bottleneck blocks.
"""


def branch(name: str) -> Branch:
    """The network's own top on a sum, and a loss."""

    def add_to(n: NetSpec, x: Top) -> None:
        n[f"{name}_loss"] = L.SoftmaxWithLoss(top(n, x, 10, f"{name}_"), n.label, loss_weight=0.3)

    return add_to


MODEL = Model(
    title="ResNet-200 for CIFAR",
    about=ABOUT,
    expected=EXPECTED,
    scores=partial(preact_resnet, blocks=33),
    branches={block: branch(f"aux{k}") for k, block in enumerate(HUNG, 1)},
    flows=FLOWS,
    crop_size=32,
    batch_size=128,
    test_batch_size=100,
    scale=0.017,
    solver=cifar.SOLVER,
)
