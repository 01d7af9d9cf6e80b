"""Residual networks (He et al. 2016) in the layer names of their authors' Caffe release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L

from .parts import Branches, batch_norm, conv, fc, pool, relu

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # (width, stride of the first block)


def block_name(stage: int, index: int, count: int) -> str:
    """Block `index` of the `count` in a stage: res3a, res3b, ... or, of many, res3a, res3b1, ..."""
    if count <= 26:
        return f"res{stage}{chr(ord('a') + index)}"
    return f"res{stage}b{index}" if index else f"res{stage}a"


def stack(
    n: NetSpec,
    x: Top,
    branches: Branches,
    add_block: Callable[..., Top],
    stages: Sequence[tuple[int, int]],
    blocks: Sequence[int],
) -> Top:
    """Stages of blocks from stage 2 on; each stage's first block strides and widens.

    `add_block(n, name, x, width, stride, first)` adds one block. `branches` maps the name of a
    block to a function that hangs layers on its top.
    """
    for stage, ((width, stride), count) in enumerate(zip(stages, blocks), 2):
        for index in range(count):
            name = block_name(stage, index, count)
            x = add_block(n, name, x, width, 1 if index else stride, index == 0)
            if name in branches:
                branches[name](n, x)
    return x


def resnet(
    n: NetSpec, x: Top, branches: Branches, blocks: Sequence[int], classes: int = 1000
) -> Top:
    """The scores of a ResNet of bottleneck blocks, `blocks` of them in each of four stages."""
    x = conv(n, "conv1", x, 64, kernel_size=7, pad=3, stride=2)
    x = relu(n, "conv1_relu", batch_norm(n, "bn_conv1", "scale_conv1", x))
    x = pool(n, "pool1", x, kernel_size=3, stride=2)
    x = stack(n, x, branches, bottleneck, STAGES, blocks)
    x = pool(n, "pool5", x, "AVE", global_pooling=True)
    return fc(n, f"fc{classes}", x, classes)


def bottleneck(n: NetSpec, name: str, x: Top, width: int, stride: int, first: bool) -> Top:
    """1x1, 3x3, 1x1 convolutions beside a shortcut; as in the release, the first 1x1 strides."""
    shortcut = x
    if first:
        shortcut = conv_bn(n, f"{name}_branch1", x, 4 * width, kernel_size=1, stride=stride)
    x = conv_bn(n, f"{name}_branch2a", x, width, kernel_size=1, stride=stride)
    x = relu(n, f"{name}_branch2a_relu", x)
    x = conv_bn(n, f"{name}_branch2b", x, width, kernel_size=3, pad=1)
    x = relu(n, f"{name}_branch2b_relu", x)
    x = conv_bn(n, f"{name}_branch2c", x, 4 * width, kernel_size=1)
    n[name] = L.Eltwise(shortcut, x)
    return relu(n, f"{name}_relu", n[name])


def conv_bn(n: NetSpec, name: str, x: Top, num_output: int, **shape: Any) -> Top:
    """Convolution res2a_branch1, BatchNorm bn2a_branch1 and Scale scale2a_branch1."""
    x = conv(n, name, x, num_output, **shape)
    suffix = name[len("res") :]
    return batch_norm(n, f"bn{suffix}", f"scale{suffix}", x)
