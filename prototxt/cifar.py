"""CIFAR networks with one auxiliary branch, and what all CIFAR readmes say."""

from __future__ import annotations

from typing import Any, Callable

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L

from .model import Model, Trunk
from .parts import Branch, Branches, batch_norm, conv, conv_bn_relu, fc, pool, relu
from .preact import zero_padded
from .resnet import block_name, conv_bn, stack

# 391 iterations of 128 images are an epoch of 50,000; 100 tests of 100 see all 10,000
SOLVER = {
    "test_iter": [100],
    "test_interval": 1000,
    "test_initialization": False,
    "base_lr": 0.1,
    "lr_policy": "multistep",
    "gamma": 0.1,
    "stepvalue": [32000, 48000],
    "max_iter": 64000,
    "momentum": 0.9,
    "weight_decay": 0.0001,
    "display": 100,
    "average_loss": 100,
    "snapshot": 16000,
}
WIDE_SOLVER = {
    **SOLVER,
    "type": "Nesterov",
    "gamma": 0.2,
    "stepvalue": [23460, 46920, 62560],
    "max_iter": 78200,
    "weight_decay": 0.0005,
}
DATA = """
The LMDBs hold CIFAR's images: either as they are, 32x32, or padded by 4 zero pixels to 40x40. With
padded images, `crop_size` 32 and `mirror` give the usual augmentation; the mean image, padded too,
leaves the border at zero, and a test crops out the original image. With the 100 classes of
CIFAR-100, each classifier needs `num_output: 100`; `make train` sets it.
"""
HEAD = """\
- **Branch:** 1x1 convolution 128{norm}, ReLU, global average pooling, fc. Loss weight 0.3.
"""
SHORTCUTS = """\
- **Shortcuts** have no parameters (He et al.'s option A): where a block halves the map, the
  shortcut is a 2x2 average pooling with as many zero channels added (Caffe has no plain
  subsampling).
"""
PIXEL_SCALE = """\
- **Pixel scale:** `scale: 0.017`, about one over the pixels' standard deviation: `conv1` has no
  BatchNorm, and its share of the sums must not drown that of the blocks.
"""
BATCH_NORM = """\
- **BatchNorm:** eps 1e-5 (Caffe's default), `moving_average_fraction` 0.95 (Caffe's is 0.999).
- **Initialisation:** MSRA; the biases of fc layers learn at twice the rate, undecayed.
"""


def resnet(n: NetSpec, x: Top, branches: Branches, blocks: int, classes: int = 10) -> Top:
    """The scores of a CIFAR ResNet (He et al., CVPR 2016), `blocks` in each of three stages."""
    x = conv(n, "conv1", x, 16, kernel_size=3, pad=1)
    x = relu(n, "conv1_relu", batch_norm(n, "bn_conv1", "scale_conv1", x))
    x = stack(n, x, branches, basic, ((16, 1), (32, 2), (64, 2)), [blocks] * 3)
    return fc(n, "fc", pool(n, "pool", x, "AVE", global_pooling=True), classes)


def basic(n: NetSpec, name: str, x: Top, width: int, stride: int, first: bool) -> Top:
    """Two 3x3 convolutions with BatchNorm beside a shortcut."""
    shortcut = zero_padded(n, name, x) if stride > 1 else x
    x = conv_bn(n, f"{name}_branch2a", x, width, kernel_size=3, pad=1, stride=stride)
    x = relu(n, f"{name}_branch2a_relu", x)
    x = conv_bn(n, f"{name}_branch2b", x, width, kernel_size=3, pad=1)
    n[name] = L.Eltwise(shortcut, x)
    return relu(n, f"{name}_relu", n[name])


def head(name: str, unit: Callable[..., Top] = conv_bn_relu, classes: int = 10) -> Branch:
    """A small branch: a `unit` of 1x1 convolution 128, global average pooling, fc."""

    def add_to(n: NetSpec, x: Top) -> None:
        x = unit(n, f"{name}_conv", x, 128, kernel_size=1)
        x = pool(n, f"{name}_pool", x, "AVE", global_pooling=True)
        x = fc(n, f"{name}_classifier", x, classes)
        n[f"{name}_loss"] = L.SoftmaxWithLoss(x, n.label, loss_weight=0.3)

    return add_to


def one_branch(
    title: str,
    about: str,
    expected: str,
    scores: Trunk,
    blocks: int,
    solver: dict[str, Any] = SOLVER,
    scale: float = 1,
    notes: str = "",
) -> Model:
    """The Model of a residual CIFAR network with a branch two thirds up its middle stage."""
    lowest = block_name(3, 0, blocks)
    highest = block_name(3, -(-2 * blocks // 3) - 1, blocks)
    about += (
        f"""
One auxiliary branch is attached to `{highest}`, two thirds up the 16x16 stage. Its loss trains
everything below it, the primary loss everything from the top down to `{lowest}`; both train
`{lowest}` to `{highest}`. Relay Backpropagation was not published for CIFAR: this follows its
ResNet-50.

Choices made here:

"""
        + HEAD.format(norm=", BatchNorm")
        + notes
        + BATCH_NORM
        + DATA
    )
    return Model(
        title=title,
        about=about,
        expected=expected,
        scores=scores,
        branches={highest: head("aux")},
        flows={"loss": lowest, "aux_loss": "conv1"},
        crop_size=32,
        batch_size=128,
        test_batch_size=100,
        scale=scale,
        solver=solver,
    )


def published(error10: str, error100: str | None = None) -> str:
    """The published error of standard BP, with its source."""
    return (
        f"CIFAR-10 test error with standard BP: {error10}."
        + (f" CIFAR-100: {error100}." if error100 else "")
        + """
No figure is published for the other two methods. `accuracy_top1` is one minus this error.
"""
    )
