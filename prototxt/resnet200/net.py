"""ResNet-200 for ImageNet with four auxiliary branches.

python -m relaybp.prototxt.generate resnet200
"""

from __future__ import annotations

from functools import partial

from relaybp.prototxt import parts, settings, very_deep
from relaybp.prototxt.model import Model
from relaybp.prototxt.preact import normalise, preact_bottleneck_resnet

BLOCKS = (3, 24, 36, 3)
HUNG, FLOWS = very_deep.relay(BLOCKS, overlap=5)

ABOUT = (
    """
The pre-activation ResNet-200 (He et al., ECCV 2016) for ImageNet with 1000 classes, and four
auxiliary branches: the extremely deep network with several branches that the authors of Relay
Backpropagation (Shen, Lin and Huang, ECCV 2016) left as future work.

"""
    + very_deep.table(HUNG, FLOWS)
    + """
The first branch is a third of the way up the 66 blocks; the others are spaced evenly above it.
Neighbouring losses share the five blocks below each branch.

Choices made here:

"""
    + settings.HEAD.format(classes=1000)
    + """\
  It begins with BatchNorm and ReLU, as a block does.
- **Blocks:** BatchNorm and ReLU before each convolution; the 3x3 convolution strides; where the
  width changes, the shortcut is a 1x1 convolution of the normalised input.
- **BatchNorm:** eps 1e-5, `moving_average_fraction` 0.95. It normalises over the 32 images of a
  pass; 8 passes make the mini-batch of 256.
"""
    + settings.LEARNING
)

EXPECTED = """
Standard BP, ImageNet validation error, top-1 / top-5: 20.7 / 5.3 in a single 320x320 crop (He et
al.). No figure is published for the other two methods with this network.
"""


def branch(name: str) -> parts.Branch:
    """GoogLeNet's auxiliary classifier on a normalised sum."""
    head = parts.googlenet_head(name, classes=1000)
    return lambda n, x: head(n, normalise(n, f"{name}_first", x))


MODEL = Model(
    title="ResNet-200",
    about=ABOUT,
    expected=EXPECTED,
    scores=partial(preact_bottleneck_resnet, blocks=BLOCKS),
    branches={block: branch(f"aux{k}") for k, block in enumerate(HUNG, 1)},
    flows=FLOWS,
    crop_size=224,
    batch_size=32,
    scene=settings.SHUFFLED,
    solver=settings.IMAGENET,
)
