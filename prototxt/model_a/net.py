"""Model A of the Relay Backpropagation paper, for Places2.

python -m relaybp.prototxt.generate model_a
"""

from functools import partial

from relaybp.prototxt import parts, settings
from relaybp.prototxt.model import Model
from relaybp.prototxt.vgg import vgg

ABOUT = (
    """
Model A of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016) for Places2 with 401 classes:
VGG-19 plus three convolutions, 256 channels in the last stage, and a spatial pyramid of 1x1, 2x2,
3x3 and 7x7 max-pooled bins in place of `pool5`. The auxiliary branch is attached to `pool4`; the
auxiliary loss trains everything below it, the primary loss everything from the top down to
`conv4_1`; both train the five convolutions of stage 4.

Choices where the paper is silent:

"""
    + settings.HEAD.format(classes=401)
    + settings.PYRAMID
    + settings.PLAIN
)

EXPECTED = """
Places2 validation error, top-1 / top-5 (Shen et al., one run each):

| method | single centre crop | single model |
|---|---|---|
| standard BP | 50.91 / 19.00 | 48.67 / 17.19 |
| multi-loss + standard BP | 50.72 / 18.84 | 48.55 / 17.05 |
| Relay BP | 49.75 / 17.83 | 47.86 / 16.33 |

The TEST phase measures the single centre crop; a "single model" is tested fully-convolutionally at
several scales.
"""

MODEL = Model(
    title="Model A",
    about=ABOUT,
    expected=EXPECTED,
    scores=partial(
        vgg,
        depths=(2, 2, 5, 5, 5),
        widths=(64, 128, 256, 512, 256),
        classes=401,
        last_pool=parts.spp,
    ),
    branches={"pool4": parts.googlenet_head("aux", classes=401)},
    flows={"loss": "conv4_1", "aux_loss": "conv1_1"},
    crop_size=224,
    batch_size=32,
    scale=0.017,
    scene=settings.CLASS_AWARE,
    solver=settings.PLACES2,
)
