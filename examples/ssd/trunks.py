"""What an SSD looks at images with: a small net, and VGG-16 as SSD300 has it."""

from __future__ import annotations

from typing import Any, NamedTuple

from caffe import NetSpec
from caffe import layers as L


class Source(NamedTuple):
    """A blob that boxes are predicted from, and what its prior boxes are, in pixels."""

    blob: str
    low: float  # min_size
    high: float  # max_size
    ratios: tuple[int, ...]
    step: int
    norm: int = 0  # scale of a Normalize layer, or 0 for none


class Trunk(NamedTuple):
    """A net up to its sources; `layers(n)` adds them above n.data."""

    size: int  # pixels a side of the input
    sources: tuple[Source, ...]
    batch: int
    rule: str  # of the solver
    rate: float
    layers: Any


def small(n: NetSpec) -> None:
    """Eight convolutions with batch normalization, down to 3 x 3."""
    top = n.data
    for i, (width, stride) in enumerate(
        [(16, 2), (32, 2), (32, 1), (48, 2), (48, 1), (64, 2), (64, 1), (64, 2)], 1
    ):
        n[f"conv{i}"] = L.Convolution(
            top,
            num_output=width,
            kernel_size=3,
            stride=stride,
            pad=1,
            bias_term=False,
            weight_filler={"type": "msra"},
        )
        n[f"conv{i}_bn"] = L.BatchNorm(n[f"conv{i}"], in_place=True)
        n[f"conv{i}_scale"] = L.Scale(n[f"conv{i}"], in_place=True, bias_term=True)
        top = n[f"conv{i}_relu"] = L.ReLU(n[f"conv{i}"], in_place=True)


def vgg16(n: NetSpec) -> None:
    """VGG-16, its fully connected layers as dilated convolutions, and SSD300's extra layers.

    The names are those of VGG_ILSVRC_16_layers_fc_reduced.caffemodel.
    """
    top = n.data
    for stage, (count, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            top = conv_relu(n, f"conv{stage}_{i}", top, width, pad=1)
        kernel, stride = (3, 1) if stage == 5 else (2, 2)
        pad = 1 if stage == 5 else 0
        top = n[f"pool{stage}"] = L.Pooling(top, kernel_size=kernel, stride=stride, pad=pad)
    top = conv_relu(n, "fc6", top, 1024, pad=6, dilation=6)
    top = conv_relu(n, "fc7", top, 1024, kernel=1)
    for name, narrow, wide, stride, pad in [
        ("conv6", 256, 512, 2, 1),
        ("conv7", 128, 256, 2, 1),
        ("conv8", 128, 256, 1, 0),
        ("conv9", 128, 256, 1, 0),
    ]:
        top = conv_relu(n, f"{name}_1", top, narrow, kernel=1)
        top = conv_relu(n, f"{name}_2", top, wide, stride=stride, pad=pad)


def conv(bottom: Any, outputs: int, kernel: int = 3, **more: Any) -> Any:
    """A Convolution as SSD trains it: biases learn twice as fast and do not decay."""
    return L.Convolution(
        bottom,
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        num_output=outputs,
        kernel_size=kernel,
        weight_filler={"type": "xavier"},
        bias_filler={"type": "constant", "value": 0},
        **more,
    )


def conv_relu(n: NetSpec, name: str, bottom: Any, outputs: int, **more: Any) -> Any:
    """A Convolution named `name` and its ReLU."""
    n[name] = conv(bottom, outputs, **more)
    n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    return n[name]


TRUNKS = {
    "small": Trunk(
        96,
        (
            Source("conv5", 14, 28, (2,), 8),
            Source("conv7", 28, 46, (2,), 16),
            Source("conv8", 46, 66, (2,), 32),
        ),
        16,
        "Adam",
        0.003,
        small,
    ),
    "vgg16": Trunk(
        300,
        (
            Source("conv4_3", 30, 60, (2,), 8, norm=20),
            Source("fc7", 60, 111, (2, 3), 16),
            Source("conv6_2", 111, 162, (2, 3), 32),
            Source("conv7_2", 162, 213, (2, 3), 64),
            Source("conv8_2", 213, 264, (2,), 100),
            Source("conv9_2", 264, 315, (2,), 300),
        ),
        32,
        "SGD",
        0.001,
        vgg16,
    ),
}
