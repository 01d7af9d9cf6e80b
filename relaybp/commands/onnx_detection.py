"""How SSD's DetectionOutput is written in ONNX: decoding, NonMaxSuppression, the best of an image.

Where Caffe has a row of -1 for want of detections, the exported net has no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_layers import Unsupported, writes

if TYPE_CHECKING:
    from .export_onnx import Writer

_INT64, _FLOAT = 7, 1
_BELOW_ALL = -1e30  # a score


class _Ops:
    """The writer's operations as functions from names to a name."""

    def __init__(self, writer: Writer, node: Any):
        self.writer, self.node = writer, node

    def __getattr__(self, op: str):
        def write(*inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
            names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
            made = [self.writer.fresh(self.node) for _ in range(outputs)]
            self.writer.add(op, names, made, **attributes)
            return made[0] if outputs == 1 else made

        return write

    def constant(self, value: Any) -> str:
        """The name of a constant: whole numbers as int64, others as float32."""
        value = np.asarray(value)
        kind = np.int64 if value.dtype.kind == "i" else np.float32
        return self.writer.constant(self.node, "constant", value.astype(kind))

    def column(self, x: str, index: int) -> str:
        """One column of a matrix (K, n), as (K, 1)."""
        return self.Slice(x, [index], [index + 1], [1])


@writes("DetectionOutput")
def detection_output(
    writer: Writer, node: Any, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    layer, ops = node.layer, _Ops(writer, node)
    options = layer.options
    if len(inputs) > 3:
        raise Unsupported("RefineDet's bottoms")
    if options.use_polygon:
        raise Unsupported("TextBoxes++' use_polygon")
    if not options.share_location:
        raise Unsupported("share_location: false")
    if options.nms_param.eta < 1:
        raise Unsupported("an eta below 1")
    boxes = _decoded(ops, layer, *(inputs[i] for i in (0, 2)))  # (N, P, 4)
    scores = writer.reshaped(node, inputs[1], (0, layer.priors, options.num_classes))
    labels = [i for i in range(options.num_classes) if i != options.background_label_id]
    scores = ops.Transpose(ops.Gather(scores, labels, axis=2), perm=(0, 2, 1))  # (N, L, P)
    found = _suppressed(ops, options, layer.priors, boxes, scores)  # (K, 3): image, class, box
    image, label, box = (ops.column(found, i) for i in range(3))
    score = ops.Unsqueeze(ops.GatherND(scores, found), [1])
    label = ops.Gather(labels, ops.Squeeze(label, [1]))
    rows = ops.Concat(
        ops.Cast(image, to=_FLOAT),
        ops.Cast(ops.Unsqueeze(label, [1]), to=_FLOAT),
        score,
        ops.GatherND(boxes, ops.Concat(image, box, axis=1)),
        axis=1,
    )
    if options.keep_top_k > -1:
        rows = ops.Compress(rows, _is_among_best(ops, image, score, options.keep_top_k), axis=0)
    writer.add("Unsqueeze", [rows, ops.constant([0, 1])], outputs)


def _decoded(ops, layer, codes, priors):
    """The boxes that codes stand for, (N, P, 4)."""
    options, code = layer.options, layer.options.DESCRIPTOR.fields_by_name["code_type"].enum_type
    codes = ops.writer.reshaped(ops.node, codes, (0, layer.priors, 4))
    priors, variances = ops.Split(
        ops.Reshape(priors, [2, layer.priors, 4]), [1, 1], outputs=2, axis=0
    )  # (1, P, 4) each
    if not options.variance_encoded_in_target:
        codes = ops.Mul(codes, variances)
    kind = code.values_by_number[options.code_type].name
    if kind == "CORNER":
        return ops.Add(priors, codes)
    low, high = ops.Split(priors, [2, 2], outputs=2, axis=2)
    size = ops.Sub(high, low)
    if kind == "CORNER_SIZE":
        return ops.Add(priors, ops.Mul(codes, ops.Concat(size, size, axis=2)))
    shift, growth = ops.Split(codes, [2, 2], outputs=2, axis=2)
    center = ops.Add(ops.Add(low, ops.Mul(size, 0.5)), ops.Mul(shift, size))
    half = ops.Mul(ops.Mul(ops.Exp(growth), size), 0.5)
    return ops.Concat(ops.Sub(center, half), ops.Add(center, half), axis=2)


def _suppressed(ops, options, count, boxes, scores):
    """The boxes that stay, (K, 3); those beyond the top_k best of a class are no candidates."""
    nms = options.nms_param
    if nms.HasField("top_k") and -1 < nms.top_k < count:
        best, _ = ops.TopK(scores, [nms.top_k], outputs=2, axis=2)
        least = ops.Slice(best, [nms.top_k - 1], [nms.top_k], [2])
        scores = ops.Where(ops.Less(scores, least), _BELOW_ALL, scores)
    lowest = options.confidence_threshold if options.HasField("confidence_threshold") else -1e29
    return ops.NonMaxSuppression(boxes, scores, [count], [nms.nms_threshold], [lowest])


def _is_among_best(ops, image, score, most):
    """Whether fewer than `most` rows of the same image have a higher score, (K,)."""
    same = ops.Equal(image, ops.Transpose(image, perm=(1, 0)))
    higher = ops.Less(score, ops.Transpose(score, perm=(1, 0)))  # row j above row i, (i, j)
    rank = ops.ReduceSum(ops.Cast(ops.And(same, higher), to=_INT64), [1], keepdims=0)
    return ops.Less(rank, most)
