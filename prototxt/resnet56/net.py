"""ResNet-56 for CIFAR.

python -m relaybp.prototxt.generate resnet56
"""

from functools import partial

from relaybp.prototxt.cifar import SHORTCUTS, one_branch, published, resnet

ABOUT = """
ResNet-56 for CIFAR-10 (He et al., CVPR 2016, section 4.2): three stages of 9 blocks of two 3x3
convolutions, 16, 32 and 64 wide. The solver is theirs too: mini-batch 128, learning rate 0.1,
divided by 10 after 32,000 and 48,000 of 64,000 iterations, weight decay 0.0001.
"""

MODEL = one_branch(
    "ResNet-56 for CIFAR",
    ABOUT,
    published("6.97 % (He et al.)", "about 27.4 % (re-implementations)"),
    partial(resnet, blocks=9),
    blocks=9,
    notes=SHORTCUTS,
)
