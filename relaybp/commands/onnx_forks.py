"""How layers of Caffe's forks are written in ONNX; see onnx_layers.

Proposal, PSROIPooling and YOLO's outputs have no form here: export the net that ends at their
bottoms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_layers import Unsupported, writes

if TYPE_CHECKING:
    from .export_onnx import Writer


@writes("Permute")
def permute(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    writer.add("Transpose", inputs, outputs, perm=node.layer.order)


@writes("Transpose")
def transpose(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    writer.add("Transpose", inputs, outputs, perm=node.layer.order)


@writes("Reverse")
def reverse(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    ends = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": node.layer.axis, "steps": -1}
    wanted = [writer.constant(node, name, np.array([end])) for name, end in ends.items()]
    writer.add("Slice", [*inputs, *wanted], outputs)


@writes("ReLU6")
def relu6(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if node.layer.options.negative_slope:
        raise Unsupported("a negative_slope")
    ends = [writer.constant(node, name, np.float32(end)) for name, end in (("min", 0), ("max", 6))]
    writer.add("Clip", [*inputs, *ends], outputs)


def _rearranged(writer, node, x, shape, order, outputs):
    """Write `x` in a wider shape, its axes reordered, in the shape of the top."""
    wide = writer.reshaped(node, x, (0, *shape))
    moved = writer.fresh(node)
    writer.add("Transpose", [wide], [moved], perm=order)
    writer.add("Identity", [writer.reshaped(node, moved, (0, *node.tops[0].shape[1:]))], outputs)


@writes("ShuffleChannel")
def shuffle(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    group, (channels, *rest) = node.layer.options.group, node.bottoms[0].shape[1:]
    shape = (group, channels // group, math.prod(rest))
    _rearranged(writer, node, inputs[0], shape, (0, 2, 1, 3), outputs)


@writes("Reorg")
def reorg(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    layer, (channels, height, width) = node.layer, node.bottoms[0].shape[1:]
    s, few = layer.stride, channels // layer.stride**2
    if layer.options.reverse:
        shape, order = (s, s, few, height, width), (0, 3, 4, 1, 5, 2)
    else:
        shape, order = (few, height, s, width, s), (0, 3, 5, 1, 2, 4)
    _rearranged(writer, node, inputs[0], shape, order, outputs)


@writes("Axpy")
def axpy(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    factor, x, summand = inputs
    rank, product = len(node.bottoms[1].shape), writer.fresh(node)
    shape = (0, node.bottoms[1].shape[1], *[1] * (rank - 2))
    writer.add("Mul", [writer.reshaped(node, factor, shape), x], [product])
    writer.add("Add", [product, summand], outputs)


@writes("Normalize")
def normalize(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    layer, rank = node.layer, len(node.bottoms[0].shape)
    options = layer.options
    if options.normalize_type == "L1":
        raise Unsupported("normalize_type L1")
    across = options.across_spatial and not layer.is_plain
    axes = np.arange(1, rank if across else 2)
    square, total, norm, unit = (writer.fresh(node) for _ in range(4))
    writer.add("Mul", [inputs[0], inputs[0]], [square])
    writer.add("ReduceSum", [square, writer.constant(node, "axes", axes)], [total], keepdims=1)
    writer.add("Sqrt", [writer.linear(node, total, 1, options.eps)], [norm])
    writer.add("Div", [inputs[0], norm], [unit])
    scale = np.array(layer.blobs[0].data if layer.blobs else 1, np.float32)
    shape = (-1, *[1] * (rank - 2)) if scale.ndim else ()
    writer.add("Mul", [unit, writer.constant(node, "scale", scale.reshape(shape))], outputs)


@writes("PriorBox")
def prior_box(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """A constant: the boxes follow from the sizes of the bottoms, which stay as they are."""
    boxes = node.layer.forward(*[blob.tensor for blob in node.bottoms]).cpu().numpy()
    writer.add("Identity", [writer.constant(node, "boxes", boxes)], outputs)


@writes("BN")
def bn(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    layer = node.layer
    parts = [np.array(blob.data, np.float32).ravel() for blob in layer.blobs]
    if layer.fork == "SegNet":
        if layer.options.bn_mode == layer.options.LEARN:
            raise Unsupported("bn_mode LEARN, which uses each batch's own statistics")
        parts += [np.zeros_like(parts[0]), np.ones_like(parts[0])]
    eps = 0.0 if layer.fork == "SegNet" else layer.options.eps
    names = [writer.constant(node, i, part) for i, part in enumerate(parts)]
    writer.add("BatchNormalization", [*inputs, *names], outputs, epsilon=eps)


# ---- sizes ---------------------------------------------------------------------------------------


def _resized(writer, node, x, outputs, scales, **attributes):
    """Write the resizing of an image."""
    names = [x, "", writer.constant(node, "scales", np.array([1, 1, *scales], np.float32))]
    writer.add("Resize", names, outputs, **attributes)


@writes("Interp")
def interp(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    layer, x = node.layer, inputs[0]
    if layer.inside != tuple(node.bottoms[0].shape[2:]):
        starts = np.full(2, -layer.options.pad_beg)
        ends = starts + layer.inside
        names = [
            writer.constant(node, what, values)
            for what, values in (("starts", starts), ("ends", ends), ("axes", np.array([2, 3])))
        ]
        x = writer.fresh(node)
        writer.add("Slice", [inputs[0], *names], [x])
    # a little more than the ratio, so that rounding down gives the size
    scales = [(made + 0.1) / size for made, size in zip(layer.sizes, layer.inside)]
    mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    _resized(writer, node, x, outputs, scales, **mode)


@writes("Upsample")
def upsample(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if len(inputs) > 1:
        raise Unsupported("the mask of SegNet's Upsample")
    _resized(
        writer,
        node,
        inputs[0],
        outputs,
        node.layer.scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


# ---- regions -------------------------------------------------------------------------------------


@writes("ROIPooling")
def roi_pooling(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if node.layer.options.pad_ratio:
        raise Unsupported("MS-CNN's pad_ratio")
    rois = writer.reshaped(node, inputs[1], (-1, 5))
    scale = node.layer.options.spatial_scale
    pooled = node.layer.pooled
    writer.add("MaxRoiPool", [inputs[0], rois], outputs, pooled_shape=pooled, spatial_scale=scale)


@writes("ROIAlign")
def roi_align(writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    options, (height, width) = node.layer.options, node.layer.pooled
    rois = writer.reshaped(node, inputs[1], (-1, 5))
    first, index, corners = (writer.fresh(node) for _ in range(3))
    sizes = writer.constant(node, "sizes", np.array([1, 4]))
    writer.add("Split", [rois, sizes], [first, corners], axis=1)
    writer.add("Cast", [writer.reshaped(node, first, (-1,))], [index], to=7)  # int64
    writer.add(
        "RoiAlign",
        [inputs[0], corners, index],
        outputs,
        output_height=height,
        output_width=width,
        sampling_ratio=max(options.sampling_ratio, 0),
        spatial_scale=options.spatial_scale,
    )
