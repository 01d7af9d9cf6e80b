"""VGG networks (Simonyan and Zisserman 2015) of any depth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Callable

from caffe.net_spec import NetSpec, Top

from . import settings
from .model import Model
from .parts import SMALL, Branches, conv_relu, fc, fc_relu_drop, googlenet_head, pool

WIDTHS = (64, 128, 256, 512, 512)
ABOUT = """
{what}, for {dataset} with {classes} classes. It
is in Table 1 of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016).

The auxiliary branch and its flows are those of that paper's Model A: the branch is attached to
`pool4`; the auxiliary loss trains everything below it, the primary loss everything from the top
down to `conv4_1`; both train stage 4.
{more}
Choices where the papers are silent:

"""


def vgg(
    n: NetSpec,
    x: Top,
    branches: Branches,
    depths: Sequence[int],
    classes: int,
    widths: Sequence[int] = WIDTHS,
    last_pool: Callable[[NetSpec, Top], Top] | None = None,
) -> Top:
    """The scores of five stages of `depths` 3x3 convolutions, each stage max-pooled, and three fc.

    `branches` maps a pooling layer ("pool4") to a function that hangs layers on its top;
    `last_pool(n, x)` takes the place of pool5.
    """
    for stage, (depth, width) in enumerate(zip(depths, widths), 1):
        for index in range(1, depth + 1):
            x = conv_relu(n, f"conv{stage}_{index}", x, width, 3, pad=1)
        if stage == 5 and last_pool:
            x = last_pool(n, x)
        else:
            x = pool(n, f"pool{stage}", x, kernel_size=2, stride=2)
        if f"pool{stage}" in branches:
            branches[f"pool{stage}"](n, x)
    x = fc_relu_drop(n, 7, fc_relu_drop(n, 6, x))
    return fc(n, "fc8", x, classes, weight_filler=SMALL)


def one_branch(
    title: str, what: str, depths: Sequence[int], dataset: str, error: str, more: str = ""
) -> Model:
    """The Model of a VGG network with Model A's branch and flows; `error` is Table 1's."""
    classes, solver, scene = {
        "ImageNet": (1000, settings.IMAGENET, settings.SHUFFLED),
        "Places2": (401, settings.PLACES2, settings.CLASS_AWARE),
    }[dataset]
    about = ABOUT.format(what=what, dataset=dataset, classes=classes, more=more)
    return Model(
        title=title,
        about=about + settings.HEAD.format(classes=classes) + settings.PLAIN,
        expected=settings.TABLE_1.format(dataset=dataset, error=error) + settings.MULTI_SCALE,
        scores=partial(vgg, depths=depths, classes=classes),
        branches={"pool4": googlenet_head("aux", classes=classes)},
        flows={"loss": "conv4_1", "aux_loss": "conv1_1"},
        crop_size=224,
        batch_size=32,
        scale=0.017,
        scene=scene,
        solver=solver,
    )
