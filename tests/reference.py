"""A second implementation: a NetParameter run by torch.nn.functional, gradients by autograd.

Knows the layer types of the project's networks and shares no code with the engine.
"""

import torch
import torch.nn.functional as F

from caffe.proto import caffe_pb2

_POOL = caffe_pb2.PoolingParameter


def run(param, inputs, weights, phase=caffe_pb2.TRAIN):
    """{blob name: tensor} of the layers of `phase`.

    param: NetParameter, filtered only by `phase` here; inputs: {blob: tensor}; weights: {layer:
    [tensor, ...]} in Caffe's order.
    """
    blobs = dict(inputs)
    for layer in param.layer:
        rules = [rule.phase for rule in layer.include if rule.HasField("phase")]
        if layer.type in ("Input", "Data", "Accuracy", "Silence") or (rules and phase not in rules):
            continue
        bottoms = [blobs[name] for name in layer.bottom]
        tops = _FUNCTIONS[layer.type](layer, bottoms, weights.get(layer.name, []))
        tops = tops if isinstance(tops, (list, tuple)) else [tops]
        blobs.update(zip(layer.top, tops, strict=True))
    return blobs


def flow_gradients(param, inputs, weights, flows, loss_weights):
    """{layer: [gradient, ...]}: for each flow the loss's own autograd.grad, summed.

    flows: [(loss blob, set of layer names that it trains)].
    """
    weights = {
        name: [w.clone().requires_grad_() for w in values] for name, values in weights.items()
    }
    blobs = run(param, inputs, weights)
    total = {name: [torch.zeros_like(w) for w in values] for name, values in weights.items()}
    for loss, layers in flows:
        keys = [(name, i) for name in weights if name in layers for i in range(len(weights[name]))]
        gradients = torch.autograd.grad(
            loss_weights[loss] * blobs[loss].sum(),
            [weights[name][i] for name, i in keys],
            retain_graph=True,
            allow_unused=True,
        )
        for (name, i), gradient in zip(keys, gradients, strict=True):
            if gradient is not None:
                total[name][i] += gradient
    return total


def _sizes(options, stem, default):
    height, width = getattr(options, stem + "_h"), getattr(options, stem + "_w")
    if height or width:
        return (height, width)
    name = "kernel_size" if stem == "kernel" else stem
    value = getattr(options, name)
    values = list(value) if not isinstance(value, int) else [value]
    values = [v for v in values if v or stem == "pad"] or [default]
    return tuple(values * 2)[:2]


def _convolution(layer, bottoms, weights):
    options = layer.convolution_param
    dilation = (list(options.dilation) or [1])[0]
    return F.conv2d(
        bottoms[0],
        weights[0],
        weights[1] if options.bias_term else None,
        _sizes(options, "stride", 1),
        _sizes(options, "pad", 0),
        dilation,
        options.group,
    )


def _pooling(layer, bottoms, weights):
    options, x = layer.pooling_param, bottoms[0]
    if options.global_pooling:
        kernel, stride, pad = tuple(x.shape[2:]), (1, 1), (0, 0)
    else:
        kernel, stride, pad = (
            _sizes(options, "kernel", 0),
            _sizes(options, "stride", 1),
            _sizes(options, "pad", 0),
        )
    ceil = options.round_mode == _POOL.CEIL
    if options.pool == _POOL.MAX:
        return F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil)
    return F.avg_pool2d(x, kernel, stride, pad, ceil_mode=ceil)


def _batch_norm(layer, bottoms, weights):
    return F.batch_norm(bottoms[0], None, None, training=True, eps=layer.batch_norm_param.eps)


def _scale(layer, bottoms, weights):
    shape = (1, -1) + (1,) * (bottoms[0].dim() - 2)
    y = bottoms[0] * weights[0].view(shape)
    return y + weights[1].view(shape) if layer.scale_param.bias_term else y


def _eltwise(layer, bottoms, weights):
    return sum(bottoms[1:], bottoms[0])


def _inner_product(layer, bottoms, weights):
    bias = weights[1] if layer.inner_product_param.bias_term else None
    return F.linear(bottoms[0].flatten(1), weights[0], bias)


def _dropout(layer, bottoms, weights):
    if layer.dropout_param.dropout_ratio:
        raise NotImplementedError("set dropout_ratio to 0: the masks would differ")
    return bottoms[0]


def _lrn(layer, bottoms, weights):
    options = layer.lrn_param
    return F.local_response_norm(
        bottoms[0], options.local_size, options.alpha, options.beta, options.k
    )


def _power(layer, bottoms, weights):
    options = layer.power_param
    return (options.shift + options.scale * bottoms[0]) ** options.power


_FUNCTIONS = {
    "Convolution": _convolution,
    "Pooling": _pooling,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "Dropout": _dropout,
    "LRN": _lrn,
    "Power": _power,
    "ReLU": lambda layer, bottoms, weights: F.relu(bottoms[0]),
    "Flatten": lambda layer, bottoms, weights: bottoms[0].flatten(1),
    "Concat": lambda layer, bottoms, weights: torch.cat(bottoms, layer.concat_param.axis),
    "SoftmaxWithLoss": lambda layer, bottoms, weights: F.cross_entropy(
        bottoms[0].flatten(1), bottoms[1].flatten().long()
    ),
}
