"""Wide ResNet 28-10 for CIFAR.

python -m relaybp.prototxt.generate wide28_10
"""

from functools import partial

from relaybp.prototxt.cifar import PIXEL_SCALE, WIDE_SOLVER, one_branch, published
from relaybp.prototxt.preact import preact_resnet

ABOUT = """
Wide ResNet 28-10 for CIFAR-10 (Zagoruyko and Komodakis, BMVC 2016): 28 layers, pre-activation
blocks of two 3x3 convolutions, 10 times as wide as a ResNet's, 1x1 convolutions as shortcuts where
the width changes, no dropout. The solver is theirs too: Nesterov, mini-batch 128, learning rate
0.1, divided by 5 after 60, 120 and 160 of 200 epochs, weight decay 0.0005.
"""

MODEL = one_branch(
    "Wide ResNet 28-10",
    ABOUT,
    published("4.00 % (Zagoruyko and Komodakis)", "19.25 %"),
    partial(preact_resnet, blocks=4, widths=(160, 320, 640), project=True),
    blocks=4,
    solver=WIDE_SOLVER,
    scale=0.017,
    notes=PIXEL_SCALE,
)
