"""ResNet-50 with one auxiliary branch, trained by Relay Backpropagation.

python -m relaybp.prototxt.generate resnet50_relay
"""

from relaybp.prototxt import parts, settings
from relaybp.prototxt.model import Model
from relaybp.prototxt.resnet import resnet

ABOUT = (
    """
ResNet-50 (He et al., CVPR 2016) with the layer names of the authors' Caffe release, and the
auxiliary branch of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016, Table 6). The primary
loss trains the layers from the top down to block `res4a` (conv4_1), the auxiliary loss those from
`res4d` (conv4_4) down to `conv1`: both train `res4a` to `res4d`.

Choices where the papers are silent:

"""
    + settings.HEAD.format(classes=1000)
    + """\
- **Stride:** in the first 1x1 convolution (`branch2a`) of a stage, as in the Caffe release, not in
  the 3x3 one ("v1.5").
- **BatchNorm:** eps 1e-5 (Caffe's default), `moving_average_fraction` 0.95 (Caffe's is 0.999).
  Its three parameters have `lr_mult: 0`, so that every version of Caffe leaves them alone.
- **Mini-batch 256:** 32 images x `iter_size` 8. Gradients add up over 256 images, BatchNorm
  normalises over 32, as on eight GPUs of 32 images each. `batch_size` 256 with `iter_size` 1
  normalises over all 256 and needs eight times the memory for blobs.
"""
    + """\
- **Solver:** He et al.'s: learning rate 0.1, weight decay 0.0001, 600,000 iterations. The rate is
  divided by 10 after 150,000, 300,000 and 450,000 of them, in place of "when the error plateaus".
"""
    + settings.PLATEAU
    + settings.INITIALISATION
    + """\
- **Other crop sizes:** `pool5` pools globally, so the net builds with any `crop_size` from 33.
"""
)

EXPECTED = (
    """
ImageNet validation error, single model, top-1 / top-5, as the papers report it (one run each):
standard BP 20.74 / 5.25 (He et al.), 21.17 / 5.37 (re-implemented by Shen et al.); Relay BP
20.26 / 4.93.
"""
    + settings.MULTI_SCALE
)

MODEL = Model(
    title="ResNet-50",
    about=ABOUT,
    expected=EXPECTED,
    scores=lambda n, x, branches: resnet(n, x, branches, blocks=(3, 4, 6, 3)),
    branches={"res4d": parts.googlenet_head("aux", classes=1000)},
    flows={"loss": "res4a", "aux_loss": "conv1"},
    crop_size=224,
    batch_size=32,
    scene={**settings.SHUFFLED, "short_side_min": 256, "short_side_max": 480},
    solver=settings.RESNET_PAPER,
)
