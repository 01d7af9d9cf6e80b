"""Model B of the Relay Backpropagation paper, for Places2.

python -m relaybp.prototxt.generate model_b
"""

from __future__ import annotations

from caffe.net_spec import NetSpec, Top
from relaybp.prototxt import parts, settings
from relaybp.prototxt.model import Model
from relaybp.prototxt.plain import inception

STAGES = ((2, 64), (3, 128), (4, 128))  # (number, k of its four inception modules)

ABOUT = (
    """
Model B of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016) for Places2 with 401 classes:
three stages of four modified inception modules, and a spatial pyramid of 1x1, 2x2, 3x3 and 7x7
max-pooled bins. A module concatenates a 1x1 convolution of k filters, a 3x3 one of k and two
stacked 3x3 ones of 2k each. The auxiliary branch is attached to `pool3`; the auxiliary loss trains
everything below it, the primary loss everything from the top down to `inception3a`; both train the
four modules at 28x28.

The deploy net has the size of the authors' released model, a caffemodel of 685,025,107 bytes: its
parameters take 685,008,452 of them.

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
| standard BP | 50.62 / 18.69 | 48.29 / 16.89 |
| multi-loss + standard BP | 50.59 / 18.68 | 48.27 / 16.89 |
| Relay BP | 49.77 / 17.86 | 47.72 / 16.36 |

The TEST phase measures the single centre crop; a "single model" is tested fully-convolutionally at
several scales.
"""


def model_b(n: NetSpec, x: Top, branches: parts.Branches) -> Top:
    """The scores of Model B; `branches` maps a pooling layer to what hangs on its top."""
    x = parts.conv_relu(n, "conv1", x, 128, 7, pad=3, stride=2)
    x = parts.pool(n, "pool1", x, kernel_size=2, stride=2)
    for stage, k in STAGES:
        for letter in "abcd":
            x = inception(n, f"inception{stage}{letter}", x, k)
        if stage < 4:
            x = parts.pool(n, f"pool{stage}", x, kernel_size=2, stride=2)
        if f"pool{stage}" in branches:
            branches[f"pool{stage}"](n, x)
    x = parts.fc_relu_drop(n, 7, parts.fc_relu_drop(n, 6, parts.spp(n, x)))
    return parts.fc(n, "fc8", x, 401, weight_filler=parts.SMALL)


MODEL = Model(
    title="Model B",
    about=ABOUT,
    expected=EXPECTED,
    scores=model_b,
    branches={"pool3": parts.googlenet_head("aux", classes=401)},
    flows={"loss": "inception3a", "aux_loss": "conv1"},
    crop_size=224,
    batch_size=32,
    scale=0.017,
    scene=settings.CLASS_AWARE,
    solver=settings.PLACES2,
)
