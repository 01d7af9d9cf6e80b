"""Shapes, parameters, multiply-adds and blob sizes of a net, from its NetParameter.

Only the layer types that the models here use; nothing is built or allocated.
"""

from collections import namedtuple
from math import ceil, prod

# Per layer: its name, type and top shapes; learned parameters; multiply-adds of a forward pass.
Row = namedtuple("Row", "name type shapes parameters multiply_adds")


def walk(net, phase, stage=""):
    """A Row for each layer of `net` that is present in `phase` (TRAIN 0, TEST 1) and `stage`."""
    shapes, rows = {}, []
    for layer in net.layer:
        if not _present(layer, phase, stage):
            continue
        bottoms = [shapes[blob] for blob in layer.bottom]
        tops, parameters, multiply_adds = RULES[layer.type](layer, bottoms)
        shapes.update(zip(layer.top, tops))
        rows.append(Row(layer.name, layer.type, tops, parameters, multiply_adds))
    return rows


def parameters(rows):
    """How many numbers the net learns (BatchNorm's running statistics are not learned)."""
    return sum(row.parameters for row in rows)


def multiply_adds(rows):
    """Multiply-adds of one forward pass over the whole batch, convolutions and fc layers."""
    return sum(row.multiply_adds for row in rows)


def blob_bytes(net, rows):
    """Bytes of data and diff of every blob in fp32; layers in place share their bottom's."""
    tops = {layer.name: (layer.top, layer.bottom) for layer in net.layer}
    return 8 * sum(
        prod(shape)
        for row in rows
        for top, shape in zip(tops[row.name][0], row.shapes)
        if top not in tops[row.name][1]
    )


def _present(layer, phase, stage):
    return not layer.include or any(
        (not rule.HasField("phase") or rule.phase == phase) and stage not in rule.not_stage
        for rule in layer.include
    )


def _data(layer, bottoms):
    batch, side = layer.data_param.batch_size, layer.transform_param.crop_size
    return [(batch, 3, side, side), (batch,)], 0, 0


def _input(layer, bottoms):
    return [tuple(shape.dim) for shape in layer.input_param.shape], 0, 0


def _same(layer, bottoms):
    return [bottoms[0]] * len(layer.top), 0, 0


def _scalar(layer, bottoms):
    return [()] * len(layer.top), 0, 0


def _scale(layer, bottoms):
    return [bottoms[0]], (1 + layer.scale_param.bias_term) * bottoms[0][1], 0


def _pair(values, per_axis, default):
    """(height, width) of a kernel, stride or pad, however the message gives it."""
    if any(per_axis):
        return per_axis
    values = list(values) if hasattr(values, "__len__") else [values]
    return (values * 2)[:2] if values else (default, default)


def _convolution(layer, bottoms):
    p = layer.convolution_param
    kernel = _pair(p.kernel_size, (p.kernel_h, p.kernel_w), None)
    stride = _pair(p.stride, (p.stride_h, p.stride_w), 1)
    pad = _pair(p.pad, (p.pad_h, p.pad_w), 0)
    batch, channels, *size = bottoms[0]
    size = [(s + 2 * pad[i] - kernel[i]) // stride[i] + 1 for i, s in enumerate(size)]
    weights = p.num_output * channels // p.group * prod(kernel)
    return (
        [(batch, p.num_output, *size)],
        weights + p.bias_term * p.num_output,
        batch * weights * prod(size),
    )


def _pooling(layer, bottoms):
    p = layer.pooling_param
    batch, channels, *size = bottoms[0]
    if p.global_pooling:
        return [(batch, channels, 1, 1)], 0, 0
    pooled = []
    for side in size:
        outputs = ceil((side + 2 * p.pad - p.kernel_size) / p.stride) + 1
        # a last window that would start in the padding is left out
        pooled.append(outputs - (p.pad > 0 and (outputs - 1) * p.stride >= side + p.pad))
    return [(batch, channels, *pooled)], 0, 0


def _inner_product(layer, bottoms):
    p = layer.inner_product_param
    batch, weights = bottoms[0][0], prod(bottoms[0][1:]) * p.num_output
    return [(batch, p.num_output)], weights + p.bias_term * p.num_output, batch * weights


def _concat(layer, bottoms):
    batch, _, *rest = bottoms[0]
    return [(batch, sum(bottom[1] for bottom in bottoms), *rest)], 0, 0


def _flatten(layer, bottoms):
    return [(bottoms[0][0], prod(bottoms[0][1:]))], 0, 0


RULES = {
    "Data": _data,
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
