"""Residual networks whose blocks normalise first (He et al., ECCV 2016), narrow and wide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L

from .parts import Branches, batch_norm, conv, fc, pool, relu
from .resnet import STAGES, stack


def preact_resnet(
    n: NetSpec,
    x: Top,
    branches: Branches,
    blocks: int,
    widths: Sequence[int] = (16, 32, 64),
    project: bool = False,
    classes: int = 10,
) -> Top:
    """The scores of a CIFAR network of basic blocks, `blocks` in each of three stages.

    `project`: where a block widens, its shortcut is a 1x1 convolution, as in wide networks;
    otherwise it is padded with zero channels.
    """
    x = conv(n, "conv1", x, 16, kernel_size=3, pad=1)
    stages = tuple(zip(widths, (1, 2, 2)))
    x = stack(n, x, branches, partial(basic, project=project), stages, [blocks] * 3)
    return top(n, x, classes)


def preact_bottleneck_resnet(
    n: NetSpec, x: Top, branches: Branches, blocks: Sequence[int], classes: int = 1000
) -> Top:
    """The scores of an ImageNet network of bottleneck blocks, `blocks` in each of four stages."""
    x = conv(n, "conv1", x, 64, kernel_size=7, pad=3, stride=2)
    x = relu(n, "conv1_relu", batch_norm(n, "conv1_bn", "conv1_scale", x))
    x = pool(n, "pool1", x, kernel_size=3, stride=2)
    return top(n, stack(n, x, branches, bottleneck, STAGES, blocks), classes)


def normalise(n: NetSpec, name: str, x: Top) -> Top:
    """BatchNorm, Scale and ReLU beside `x`, which stays as it is: the shortcut needs it."""
    return relu(n, f"{name}_relu", batch_norm(n, f"{name}_bn", f"{name}_scale", x, in_place=False))


def basic(
    n: NetSpec, name: str, x: Top, width: int, stride: int, first: bool, project: bool
) -> Top:
    """Two 3x3 convolutions, each after BatchNorm and ReLU, beside a shortcut."""
    y = normalise(n, f"{name}_1", x)
    if project and first:
        x = conv(n, f"{name}_shortcut", y, width, kernel_size=1, stride=stride)
    elif stride > 1:
        x = zero_padded(n, name, x)
    y = conv(n, f"{name}_1_conv", y, width, kernel_size=3, pad=1, stride=stride)
    y = relu(n, f"{name}_2_relu", batch_norm(n, f"{name}_2_bn", f"{name}_2_scale", y))
    n[name] = L.Eltwise(x, conv(n, f"{name}_2_conv", y, width, kernel_size=3, pad=1))
    return n[name]


def bottleneck(n: NetSpec, name: str, x: Top, width: int, stride: int, first: bool) -> Top:
    """1x1, 3x3 (which strides) and 1x1 convolutions, each after BatchNorm and ReLU."""
    y = normalise(n, f"{name}_1", x)
    if first:
        x = conv(n, f"{name}_shortcut", y, 4 * width, kernel_size=1, stride=stride)
    y = conv(n, f"{name}_1_conv", y, width, kernel_size=1)
    y = relu(n, f"{name}_2_relu", batch_norm(n, f"{name}_2_bn", f"{name}_2_scale", y))
    y = conv(n, f"{name}_2_conv", y, width, kernel_size=3, pad=1, stride=stride)
    y = relu(n, f"{name}_3_relu", batch_norm(n, f"{name}_3_bn", f"{name}_3_scale", y))
    n[name] = L.Eltwise(x, conv(n, f"{name}_3_conv", y, 4 * width, kernel_size=1))
    return n[name]


def zero_padded(n: NetSpec, name: str, x: Top) -> Top:
    """A shortcut without parameters to half the size and twice the channels, the new ones zero."""
    x = pool(n, f"{name}_shortcut", x, "AVE", kernel_size=2, stride=2)
    n[f"{name}_zeros"] = L.Power(x, scale=0)
    n[f"{name}_padded"] = L.Concat(x, n[f"{name}_zeros"])
    return n[f"{name}_padded"]


def top(n: NetSpec, x: Top, classes: int, prefix: str = "") -> Top:
    """BatchNorm, ReLU, global average pooling, fc: the scores of such a network."""
    x = pool(n, f"{prefix}pool", normalise(n, f"{prefix}last", x), "AVE", global_pooling=True)
    return fc(n, f"{prefix}fc", x, classes)
