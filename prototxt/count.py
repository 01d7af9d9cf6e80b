"""Shapes, parameters, multiply-adds and blob sizes of a net, from its NetParameter.

Only the layer types that the models here use; nothing is built or allocated.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from caffe_plain import cost
from caffe_plain.geometry import convolved, pooled, window
from caffe_plain.phases import layers_of, state_of
from relaybp.data_layers import DataLayer

Shape = tuple[int, ...]
Counted = tuple[list[Shape], list[Shape]]  # shapes of the tops, and of the parameters


class Row(NamedTuple):
    """A layer and what it costs."""

    name: str
    type: str
    shapes: list[Shape]  # of the tops
    parameters: int  # learned
    multiply_adds: int  # of a forward pass


def walk(net: Any, phase: int, stage: str = "") -> list[Row]:
    """A Row for each layer of `net` that is present in `phase` (TRAIN 0, TEST 1) and `stage`."""
    shapes: dict[str, Shape] = {}
    rows = []
    for layer in layers_of(net, state_of(net, phase, stages=[stage] if stage else [])):
        bottoms = [shapes[blob] for blob in layer.bottom]
        tops, learned = RULES[layer.type](layer, bottoms)
        shapes.update(zip(layer.top, tops))
        work = cost.multiply_adds(layer.type, learned, bottoms, tops)
        rows.append(Row(layer.name, layer.type, tops, sum(map(prod, learned)), work))
    return rows


def parameters(rows: list[Row]) -> int:
    """How many numbers the net learns (BatchNorm's running statistics are not learned)."""
    return sum(row.parameters for row in rows)


def multiply_adds(rows: list[Row]) -> int:
    """Multiply-adds of one forward pass over the whole batch, convolutions and fc layers."""
    return sum(row.multiply_adds for row in rows)


def blob_bytes(net: Any, rows: list[Row]) -> int:
    """Bytes of data and diff of every blob in fp32; layers in place share their bottom's."""
    tops = {layer.name: (layer.top, layer.bottom) for layer in net.layer}
    return 8 * sum(
        prod(shape)
        for row in rows
        for top, shape in zip(tops[row.name][0], row.shapes)
        if top not in tops[row.name][1]
    )


# ---- rules: the shapes of a layer's tops, and of the parameters that it learns -------------------


def _data(layer: Any, bottoms: list[Shape]) -> Counted:
    batch, side = (DataLayer(layer).get(field) for field in ("batch_size", "crop_size"))
    return [(batch, 3, side, side), (batch,)], []


def _input(layer: Any, bottoms: list[Shape]) -> Counted:
    return [tuple(shape.dim) for shape in layer.input_param.shape], []


def _same(layer: Any, bottoms: list[Shape]) -> Counted:
    return [bottoms[0]] * len(layer.top), []


def _scalar(layer: Any, bottoms: list[Shape]) -> Counted:
    return [()] * len(layer.top), []


def _scale(layer: Any, bottoms: list[Shape]) -> Counted:
    return [bottoms[0]], [bottoms[0][1:2]] * (1 + layer.scale_param.bias_term)


def _convolution(layer: Any, bottoms: list[Shape]) -> Counted:
    p = layer.convolution_param
    batch, channels, *image = bottoms[0]
    windows = window(p, len(image))
    sizes = (convolved(*axis) for axis in zip(image, *windows))
    weights = (p.num_output, channels // p.group, *windows.kernel)
    return [(batch, p.num_output, *sizes)], [weights] + [(p.num_output,)] * p.bias_term


def _pooling(layer: Any, bottoms: list[Shape]) -> Counted:
    p = layer.pooling_param
    batch, channels, *image = bottoms[0]
    if p.global_pooling:
        return [(batch, channels, 1, 1)], []
    kernel, stride, pad, _ = window(p)
    ceil = p.round_mode == p.CEIL
    sizes = (pooled(*axis, ceil, clip=any(pad)) for axis in zip(image, kernel, stride, pad))
    return [(batch, channels, *sizes)], []


def _inner_product(layer: Any, bottoms: list[Shape]) -> Counted:
    p = layer.inner_product_param
    weights = (p.num_output, prod(bottoms[0][1:]))
    return [(bottoms[0][0], p.num_output)], [weights] + [(p.num_output,)] * p.bias_term


def _concat(layer: Any, bottoms: list[Shape]) -> Counted:
    batch, _, *rest = bottoms[0]
    return [(batch, sum(bottom[1] for bottom in bottoms), *rest)], []


def _flatten(layer: Any, bottoms: list[Shape]) -> Counted:
    return [(bottoms[0][0], prod(bottoms[0][1:]))], []


RULES = {
    "Data": _data,
    "Python": _data,
    "Input": _input,
    "Convolution": _convolution,
    "Pooling": _pooling,
    "InnerProduct": _inner_product,
    "Scale": _scale,
    "Concat": _concat,
    "Flatten": _flatten,
    "BatchNorm": _same,
    "ReLU": _same,
    "Eltwise": _same,
    "Dropout": _same,
    "Power": _same,
    "Softmax": _same,
    "SoftmaxWithLoss": _scalar,
    "Accuracy": _scalar,
}
