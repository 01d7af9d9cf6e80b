"""AuxNet (Guo et al. 2016): a pre-activation ResNet whose auxiliary outputs are models too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from caffe.net_spec import NetSpec, Top

from . import cifar
from .model import Model
from .parts import Branch, loss_and_accuracy
from .preact import preact_resnet, top
from .resnet import block_name

# 391 iterations of 128 images are an epoch: 400 epochs, steps after 160 and 240
SOLVER = {**cifar.SOLVER, "type": "Nesterov", "stepvalue": [62560, 93840], "max_iter": 156400}
RELAY_OPTIONS = """\
weight_law { gamma: 2 floor: 0.01 reference: DEEPEST_AUXILIARY spare_scores: true }
step { normalize: true own_momentum: true loss_ratio_guard: 2 }
"""
ABOUT = """
AuxNet (Guo et al., "The Shallow End", 2016): a pre-activation ResNet of {depth} layers{wide} for
{data} with outputs at {layers} and {depth}. Every output classifies the same labels, is
tested, and is a model of its own depth: `deploy.prototxt` has the last output,
`deploy_auxN.prototxt` stops after layer N. The snapshots fit them all.

| output | block | weight |
|---|---|---|
{rows}| `loss` | the top | 1 |

The weight of an output at layer l is (l / {last})^2, {last} being the deepest auxiliary output, and
at least 0.01: `loss_weight` in the net, and `weight_law` in `relay.prototxt`. There it scales only
what flows into the trunk, not the step of the output's own fc (`spare_scores`). Each loss takes its
own step with its own momentum, divided by the sum of its weight and those of the deeper outputs.

Choices made here:

- **Layers** are counted as He et al. do: `conv1` is 1, block b ends at layer 2b + 1.
- **Outputs** are BatchNorm, ReLU, global average pooling, fc, like the network's own.
{notes}"""


def auxnet(
    depth: int,
    outputs: Sequence[int],
    widths: Sequence[int] = (16, 32, 64),
    project: bool = False,
    notes: str = "",
    expected: str = "",
    data: str = "CIFAR-10",
) -> Model:
    """The Model of an AuxNet of `depth` layers with auxiliary outputs after the given layers.

    data: the set that its readme names.
    """
    blocks = (depth - 2) // 6
    weights = {layer: max((layer / outputs[-1]) ** 2, 0.01) for layer in outputs}
    names = {layer: _block_at(layer, blocks) for layer in outputs}
    rows = "".join(
        f"| `aux{layer}_loss` | `{names[layer]}` | {weights[layer]:.2f} |\n" for layer in outputs
    )
    about = (
        ABOUT.format(
            depth=depth,
            layers="layers " + ", ".join(map(str, outputs)),
            rows=rows,
            wide=f", {widths[0] // 16} times as wide," if widths[0] > 16 else "",
            last=outputs[-1],
            notes=notes,
            data=data,
        )
        + cifar.PIXEL_SCALE
        + cifar.BATCH_NORM
        + cifar.DATA
    )
    return Model(
        title=f"AuxNet-{depth}-{len(outputs) + 1}",
        about=about,
        expected=expected,
        scores=partial(preact_resnet, blocks=blocks, widths=widths, project=project),
        branches={names[layer]: _output(layer, weights[layer]) for layer in outputs},
        flows={"loss": "conv1", **{f"aux{layer}_loss": "conv1" for layer in reversed(outputs)}},
        crop_size=32,
        batch_size=128,
        test_batch_size=100,
        scale=0.017,
        solver=SOLVER,
        schedule="MULTI_WAY",
        relay_options=RELAY_OPTIONS,
        test_branches=True,
        depths={"loss": depth, **{f"aux{layer}_loss": layer for layer in outputs}},
    )


def _block_at(layer: int, blocks: int) -> str:
    """The block that ends at a layer, of three stages of `blocks` blocks of two layers."""
    stage, index = divmod((layer - 1) // 2 - 1, blocks)
    return block_name(stage + 2, index, blocks)


def _output(layer: int, weight: float) -> Branch:
    """An output like the network's own top, and tested like it."""

    def add_to(n: NetSpec, x: Top) -> None:
        scores = top(n, x, 10, f"aux{layer}_")
        loss_and_accuracy(n, scores, f"aux{layer}_", loss_weight=weight)

    return add_to
