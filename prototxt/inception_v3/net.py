"""Inception-v3 with its own auxiliary head, trained by Relay Backpropagation.

python -m relaybp.prototxt.generate inception_v3
"""

from __future__ import annotations

from typing import Any

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L
from relaybp.prototxt import settings
from relaybp.prototxt.model import Model
from relaybp.prototxt.parts import Branches, conv_bn_relu, fc, pool

ABOUT = (
    """
Inception-v3 (Szegedy et al., CVPR 2016) for ImageNet with 1000 classes, with the flows of Relay
Backpropagation (Shen, Lin and Huang, ECCV 2016, Table 6). The auxiliary loss, of weight 0.3,
trains everything below its head; the primary loss everything from the top down to `inception4a`.
Both train the four modules at 17x17, `inception4a` to `inception4d`.

| layers | maps |
|---|---|
| `conv1` to `conv5`, `pool1`, `pool2` | 299 to 35 |
| `inception3a` to `inception3c` | 35x35 |
| `reduction3`, `inception4a` to `inception4d` | 17x17 |
| `reduction4`, `inception5a`, `inception5b` | 8x8 |

Choices where the papers are silent:

- **Branch:** the network's own head after `inception4d`: average pooling 5x5/3, 1x1 convolution
  128, 5x5 convolution 768, both with BatchNorm, fc 1000.
- **BatchNorm:** eps 1e-3, as in the authors' network; `moving_average_fraction` 0.95. It
  normalises over the 32 images of a mini-batch.
- **Poolings beside convolutions** are averages, which count the padding's zeros.
- **Solver:** Szegedy et al.'s: RMSProp of decay 0.9 and epsilon 1.0; learning rate 0.045, times
  0.94 every two epochs (80,073 iterations), for 100 epochs; gradients clipped to a norm of 2.0.
- **Replicas:** they train with 50 that send the gradients of 32 images each, whenever they have
  them. Here one process takes such steps, of 32 images each, one after the other.
- **Epsilon:** Caffe's RMSProp divides by sqrt(H) + epsilon, TensorFlow's by sqrt(H + epsilon).
- **Weight decay:** the paper gives none; 0.00004 is that of the authors' released network.
- **Label smoothing:** 0.1 for both losses, in `extra.prototxt` beside the solver, for an original
  Caffe lacks it. There, leave it out with `SET=label_smoothing=`.
- **Averaged weights:** they test a running average of the weights over time; here the weights of a
  snapshot are tested.
"""
    + settings.INITIALISATION
    + """\
- **Other crop sizes** must keep the maps odd: 267, 331, 363, ...
"""
)

EXPECTED = (
    """
ImageNet validation error, single model, top-1 / top-5, as the papers report it (one run each):
standard BP 18.77 / 4.20 (Szegedy et al.), 19.18 / 4.43 (re-implemented by Shen et al.); Relay BP
18.52 / 3.97.
"""
    + settings.MULTI_SCALE
)


# the units of a path: (num_output, kernel), the last kernel perhaps "fan"
Links = list[tuple[int, Any]]


def inception_v3(n: NetSpec, x: Top, branches: Branches) -> Top:
    """The scores of Inception-v3; `branches` maps a module to what hangs on its top."""
    x = unit(n, "conv1", x, 32, 3, stride=2, pad=0)
    x = unit(n, "conv2", x, 32, 3, pad=0)
    x = pool(n, "pool1", unit(n, "conv3", x, 64, 3), kernel_size=3, stride=2)
    x = unit(n, "conv5", unit(n, "conv4", x, 80, 1), 192, 3, pad=0)
    x = pool(n, "pool2", x, kernel_size=3, stride=2)
    for letter, pooled in zip("abc", (32, 64, 64)):
        x = module(
            n,
            f"inception3{letter}",
            x,
            {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "double3x3": [(64, 1), (96, 3), (96, 3)]},
            pooled,
        )
    x = reduction(n, "reduction3", x, {"3x3": [(384, 3)], "double3x3": [(64, 1), (96, 3), (96, 3)]})
    for letter, k in zip("abcd", (128, 160, 160, 192)):
        x = module(
            n,
            f"inception4{letter}",
            x,
            {
                "1x1": [(192, 1)],
                "7x7": [(k, 1), (k, (1, 7)), (192, (7, 1))],
                "double7x7": [(k, 1), (k, (7, 1)), (k, (1, 7)), (k, (7, 1)), (192, (1, 7))],
            },
            192,
        )
        if f"inception4{letter}" in branches:
            branches[f"inception4{letter}"](n, x)
    x = reduction(
        n,
        "reduction4",
        x,
        {"3x3": [(192, 1), (320, 3)], "7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]},
    )
    for letter in "ab":
        x = module(
            n,
            f"inception5{letter}",
            x,
            {"1x1": [(320, 1)], "3x3": [(384, 1), FAN], "double3x3": [(448, 1), (384, 3), FAN]},
            192,
        )
    x = pool(n, "pool5", x, "AVE", global_pooling=True)
    n.drop = L.Dropout(x, in_place=True, dropout_ratio=0.5)
    return fc(n, "fc1000", n.drop, 1000)


FAN = (384, "fan")  # a 1x3 and a 3x1 convolution side by side


def unit(
    n: NetSpec, name: str, x: Top, num_output: int, kernel: int | tuple[int, int], **shape: Any
) -> Top:
    """Convolution, BatchNorm, Scale, ReLU; the padding keeps the size unless it is given."""
    if isinstance(kernel, tuple):
        height, width = kernel
        shape.update(kernel_h=height, kernel_w=width, pad_h=height // 2, pad_w=width // 2)
    else:
        shape = {"kernel_size": kernel, "pad": kernel // 2, **shape}
    return conv_bn_relu(n, name, x, num_output, eps=1e-3, **shape)


def chain(n: NetSpec, name: str, x: Top, links: Links, stride: int = 1) -> list[Top]:
    """The tops of one path of units; the last one may fan out, or stride without padding."""
    for index, (num_output, kernel) in enumerate(links):
        here = name if len(links) == 1 else f"{name}{chr(ord('a') + index)}"
        if kernel == "fan":
            return [
                unit(n, f"{here}_1x3", x, num_output, (1, 3)),
                unit(n, f"{here}_3x1", x, num_output, (3, 1)),
            ]
        last = {"stride": stride, "pad": 0} if stride > 1 and index == len(links) - 1 else {}
        x = unit(n, here, x, num_output, kernel, **last)
    return [x]


def module(n: NetSpec, name: str, x: Top, paths: dict[str, Links], pooled: int) -> Top:
    """Paths of units side by side, the last of them an average pooling and a 1x1 unit."""
    tops = [top for path, links in paths.items() for top in chain(n, f"{name}_{path}", x, links)]
    average = pool(n, f"{name}_pool", x, "AVE", kernel_size=3, stride=1, pad=1)
    n[name] = L.Concat(*tops, unit(n, f"{name}_proj", average, pooled, 1))
    return n[name]


def reduction(n: NetSpec, name: str, x: Top, paths: dict[str, Links]) -> Top:
    """Paths whose last units stride by 2, beside a max pooling."""
    tops = [chain(n, f"{name}_{path}", x, links, stride=2)[0] for path, links in paths.items()]
    n[name] = L.Concat(*tops, pool(n, f"{name}_pool", x, kernel_size=3, stride=2))
    return n[name]


def head(n: NetSpec, x: Top) -> None:
    """Inception-v3's auxiliary classifier."""
    x = pool(n, "aux_pool", x, "AVE", kernel_size=5, stride=3)
    x = unit(n, "aux_conv2", unit(n, "aux_conv1", x, 128, 1), 768, 5, pad=0)
    x = fc(n, "aux_classifier", pool(n, "aux_pool2", x, "AVE", global_pooling=True), 1000)
    n.aux_loss = L.SoftmaxWithLoss(x, n.label, loss_weight=0.3)


MODEL = Model(
    title="Inception-v3",
    about=ABOUT,
    expected=EXPECTED,
    scores=inception_v3,
    branches={"inception4d": head},
    flows={"loss": "inception4a", "aux_loss": "conv1"},
    crop_size=299,
    batch_size=32,
    scene={**settings.SHUFFLED, "area_min": 0.08},
    solver=settings.INCEPTION_PAPER,
    extra="label_smoothing { amount: 0.1 }\n",
)
