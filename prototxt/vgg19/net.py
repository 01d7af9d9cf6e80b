"""VGG-19 with two auxiliary losses, the example of the Relay Backpropagation paper's Figure 2.

python -m relaybp.prototxt.generate vgg19
"""

from functools import partial

from relaybp.prototxt import parts, settings
from relaybp.prototxt.model import Model
from relaybp.prototxt.vgg import vgg

ABOUT = (
    """
VGG-19 (Simonyan and Zisserman, ICLR 2015, configuration E) for ImageNet with 1000 classes, with
the two auxiliary losses of Figure 2 of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016). The
five segments end at the five max-poolings:

| loss | where | trains | segments |
|---|---|---|---|
| `aux1_loss` | after `pool3` | down to `conv1_1` | 3 to 1 |
| `aux2_loss` | after `pool4` | down to `conv3_1` | 4 and 3 |
| `loss` | the top | down to `conv4_1` | top, 5 and 4 |

Neighbouring losses overlap in segments 3 and 4.

Where the papers are silent, this is chosen:

"""
    + settings.HEAD.format(classes=1000)
    + settings.PLAIN
)

EXPECTED = (
    settings.TABLE_1.format(dataset="ImageNet", error="26.9 / 8.7")
    + """\
On Places2 (401 classes) Table 1 gives 48.5 / 17.1 with standard BP.
"""
    + settings.MULTI_SCALE
)

MODEL = Model(
    title="VGG-19",
    about=ABOUT,
    expected=EXPECTED,
    scores=partial(vgg, depths=(2, 2, 4, 4, 4), classes=1000),
    branches={
        "pool3": parts.googlenet_head("aux1", classes=1000),
        "pool4": parts.googlenet_head("aux2", classes=1000),
    },
    flows={"loss": "conv4_1", "aux2_loss": "conv3_1", "aux1_loss": "conv1_1"},
    crop_size=224,
    batch_size=32,
    scale=0.017,
    scene=settings.SHUFFLED,
    solver=settings.IMAGENET,
)
