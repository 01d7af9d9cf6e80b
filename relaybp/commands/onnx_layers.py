"""How each Caffe layer is written in ONNX (opset 13), for tools/export_onnx.py.

A function gets the Writer, the engine's node, the names of its inputs and of its outputs. It writes
what the layer computes in the TEST phase.
"""

import math
from typing import Callable

import numpy as np

LAYERS: dict[str, Callable] = {}  # layer type -> function(writer, node, inputs, outputs)


class Unsupported(Exception):
    """A layer or an option of a layer that has no ONNX form here."""


def writes(*types):
    """Register a function as the way to write these layer types."""

    def register(function):
        LAYERS.update(dict.fromkeys(types, function))
        return function

    return register


def _array(blob):
    return np.array(blob.data, np.float32)


# ---- windows -------------------------------------------------------------------------------------


@writes("Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def convolution(writer, node, inputs, outputs):
    options, blobs, window = node.layer.options, node.layer.blobs, node.layer.window
    if options.axis != 1:
        raise Unsupported("only axis 1")
    for x, y in zip(inputs, outputs):
        parameters = [writer.constant(node, i, _array(blob)) for i, blob in enumerate(blobs)]
        writer.add(
            "ConvTranspose" if node.layer.transposed else "Conv",
            [x, *parameters],
            [y],
            group=options.group,
            pads=window.pad * 2,
            kernel_shape=window.kernel,
            strides=window.stride,
            dilations=window.dilation,
        )


@writes("Pooling")
def pooling(writer, node, inputs, outputs):
    """Pooling, with padding at the end so that ONNX uses the same windows as Caffe.

    Caffe's average counts padding up to its own pad, but not what the last window covers beyond it.
    """
    options, kind = node.layer.options, node.layer.options.PoolMethod.Name(node.layer.options.pool)
    if kind not in ("MAX", "AVE") or len(outputs) > 1:
        raise Unsupported(f"{kind} pooling with {len(outputs)} tops")
    if options.global_pooling:
        op = "GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool"
        writer.add(op, inputs, outputs)
        return
    kernel, stride, pad = node.layer.kernel, node.layer.stride, node.layer.pad
    size, made = node.bottoms[0].shape[2:], node.tops[0].shape[2:]
    end = [max((made[i] - 1) * stride[i] + kernel[i] - size[i] - pad[i], 0) for i in range(2)]
    if any(end[i] >= kernel[i] for i in range(2)):
        raise Unsupported("a window beyond the bottom")
    window = {"kernel_shape": kernel, "strides": stride, "pads": [*pad, *end]}
    if kind == "MAX":
        writer.add("MaxPool", inputs, outputs, **window)
        return
    share = np.outer(*(_covered(size[i], made[i], kernel[i], stride[i], pad[i]) for i in range(2)))
    if (share == 1).all():
        writer.add("AveragePool", inputs, outputs, count_include_pad=1, **window)
        return
    plain = writer.fresh(node)
    writer.add("AveragePool", inputs, [plain], count_include_pad=1, **window)
    factor = writer.constant(node, "share", (1 / share)[None, None])
    writer.add("Mul", [plain, factor], outputs)


def _covered(size, made, kernel, stride, pad):
    """For each window of one axis, the part of it that Caffe counts."""
    starts = np.arange(made) * stride - pad
    return (np.minimum(starts + kernel, size + pad) - starts) / kernel


# ---- neurons -------------------------------------------------------------------------------------


@writes("ReLU")
def relu(writer, node, inputs, outputs):
    slope = node.layer.options.negative_slope
    if slope:
        writer.add("LeakyRelu", inputs, outputs, alpha=slope)
    else:
        writer.add("Relu", inputs, outputs)


@writes("PReLU")
def prelu(writer, node, inputs, outputs):
    slope = _array(node.layer.blobs[0])
    shape = (-1,) + (1,) * (len(node.bottoms[0].shape) - 2)
    writer.add("PRelu", [*inputs, writer.constant(node, 0, slope.reshape(shape))], outputs)


@writes("ELU")
def elu(writer, node, inputs, outputs):
    writer.add("Elu", inputs, outputs, alpha=node.layer.options.alpha)


_UNARY = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}


@writes(*_UNARY)
def unary(writer, node, inputs, outputs):
    writer.add(_UNARY[node.layer.type], inputs, outputs)


@writes("Dropout")
def dropout(writer, node, inputs, outputs):
    layer = node.layer
    if layer.drops:
        raise Unsupported("sample_weights_test, which draws random numbers")
    factor = 1 if layer.passes_on else layer.keep
    writer.add("Identity", [writer.linear(node, inputs[0], factor, 0)], outputs)


@writes("Swish")
def swish(writer, node, inputs, outputs):
    gate = writer.fresh(node)
    scaled = writer.linear(node, inputs[0], node.layer.options.beta, 0)
    writer.add("Sigmoid", [scaled], [gate])
    writer.add("Mul", [inputs[0], gate], outputs)


@writes("Power")
def power(writer, node, inputs, outputs):
    options = node.layer.options
    value = writer.linear(node, inputs[0], options.scale, options.shift)
    if options.power == 1:
        writer.add("Identity", [value], outputs)
    else:
        exponent = writer.constant(node, "power", np.float32(options.power))
        writer.add("Pow", [value, exponent], outputs)


@writes("Exp", "Log")
def exp_or_log(writer, node, inputs, outputs):
    options, value = (
        node.layer.options,
        writer.linear(node, inputs[0], node.layer.options.scale, node.layer.options.shift),
    )
    base = math.log(options.base) if options.base > 0 else 1.0
    if node.layer.type == "Exp":
        writer.add("Exp", [writer.linear(node, value, base, 0)], outputs)
        return
    logarithm = writer.fresh(node)
    writer.add("Log", [value], [logarithm])
    writer.add("Identity", [writer.linear(node, logarithm, 1 / base, 0)], outputs)


@writes("Clip")
def clip(writer, node, inputs, outputs):
    options = node.layer.options
    ends = [
        writer.constant(node, name, np.float32(getattr(options, name))) for name in ("min", "max")
    ]
    writer.add("Clip", [*inputs, *ends], outputs)


# ---- normalization and scaling -------------------------------------------------------------------


@writes("LRN")
def lrn(writer, node, inputs, outputs):
    options = node.layer.options
    if options.norm_region != options.ACROSS_CHANNELS:
        raise Unsupported("norm_region WITHIN_CHANNEL")
    writer.add(
        "LRN",
        inputs,
        outputs,
        alpha=options.alpha,
        beta=options.beta,
        bias=options.k,
        size=options.local_size,
    )


@writes("BatchNorm")
def batch_norm(writer, node, inputs, outputs):
    mean, variance, count, *learned = (_array(blob) for blob in node.layer.blobs)
    factor = 1 / count[0] if count[0] else 0.0
    learned = learned or [np.ones_like(mean), np.zeros_like(mean)]  # NVCaffe's scale and bias
    parameters = [*learned, mean * factor, variance * factor]
    writer.add(
        "BatchNormalization",
        [*inputs, *(writer.constant(node, i, part) for i, part in enumerate(parameters))],
        outputs,
        epsilon=node.layer.options.eps,
    )


@writes("Scale", "Bias")
def scale(writer, node, inputs, outputs):
    """Multiply by a parameter or a second bottom, whose axes begin at `axis` of the first."""
    options, blobs = node.layer.options, list(node.layer.blobs)
    rank = len(node.bottoms[0].shape)
    shape = node.bottoms[1].shape if len(inputs) > 1 else blobs[0].shape
    trailing = (1,) * (rank - options.axis % rank - len(shape)) if shape else ()
    names = [
        writer.constant(node, i, _array(blob).reshape(blob.shape + trailing))
        for i, blob in enumerate(blobs)
    ]
    if len(inputs) > 1:
        names.insert(0, writer.reshaped(node, inputs[1], shape + trailing, shape))
    ops = ["Mul", "Add"] if node.layer.type == "Scale" else ["Add"]
    value = inputs[0]
    for index, (op, name) in enumerate(zip(ops, names)):
        last = index == len(names) - 1
        made = outputs[0] if last else writer.fresh(node)
        writer.add(op, [value, name], [made])
        value = made


# ---- the rest ------------------------------------------------------------------------------------


@writes("InnerProduct")
def inner_product(writer, node, inputs, outputs):
    options, blobs = node.layer.options, node.layer.blobs
    if options.axis % len(node.bottoms[0].shape) != 1:
        raise Unsupported("only axis 1")
    flat = writer.fresh(node)
    writer.add("Flatten", inputs, [flat], axis=1)
    parameters = [writer.constant(node, i, _array(blob)) for i, blob in enumerate(blobs)]
    writer.add("Gemm", [flat, *parameters], outputs, transB=0 if options.transpose else 1)


@writes("Eltwise")
def eltwise(writer, node, inputs, outputs):
    options = node.layer.options
    if options.operation == options.MAX:
        writer.add("Max", inputs, outputs)
        return
    op = "Mul" if options.operation == options.PROD else "Add"
    if options.coeff:
        inputs = [writer.linear(node, x, c, 0) for x, c in zip(inputs, options.coeff)]
    value = inputs[0]
    for index, other in enumerate(inputs[1:]):
        made = outputs[0] if index == len(inputs) - 2 else writer.fresh(node)
        writer.add(op, [value, other], [made])
        value = made


@writes("Concat")
def concat(writer, node, inputs, outputs):
    options = node.layer.options
    axis = options.concat_dim if options.HasField("concat_dim") else options.axis
    writer.add("Concat", inputs, outputs, axis=axis)


@writes("Slice")
def slice_(writer, node, inputs, outputs):
    options = node.layer.options
    axis = options.slice_dim if options.HasField("slice_dim") else options.axis
    sizes = writer.constant(
        node, "sizes", np.array([blob.shape[axis] for blob in node.tops], np.int64)
    )
    writer.add("Split", [*inputs, sizes], outputs, axis=axis)


@writes("Flatten", "Reshape")
def reshape(writer, node, inputs, outputs):
    writer.add(
        "Identity",
        [writer.reshaped(node, inputs[0], node.tops[0].shape, node.bottoms[0].shape)],
        outputs,
    )


@writes("Softmax")
def softmax(writer, node, inputs, outputs):
    writer.add("Softmax", inputs, outputs, axis=node.layer.options.axis)


@writes("Crop")
def crop(writer, node, inputs, outputs):
    options, shape = node.layer.options, node.bottoms[0].shape
    first = options.axis % len(shape)
    axes = list(range(first, len(shape)))
    offset = list(options.offset) or [0]
    starts = [offset[min(i, len(offset) - 1)] for i in range(len(axes))]
    ends = [start + node.tops[0].shape[axis] for start, axis in zip(starts, axes)]
    names = [
        writer.constant(node, what, np.array(values, np.int64))
        for what, values in (("starts", starts), ("ends", ends), ("axes", axes))
    ]
    writer.add("Slice", [inputs[0], *names], outputs)


@writes("Split")
def split(writer, node, inputs, outputs):
    for output in outputs:
        writer.add("Identity", inputs, [output])


@writes("Silence", "Input")
def nothing(writer, node, inputs, outputs):
    """Computes nothing."""
