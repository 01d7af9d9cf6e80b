"""The network of a prototxt as a plain PyTorch module: what a user would train instead.

BatchNorm and Scale become one nn.BatchNorm2d, ReLUs are in place: as a careful user would write it.
"""

import torch
import torch.nn.functional as F
from torch import nn

from caffe.proto import caffe_pb2
from caffe_plain.geometry import window
from caffe_plain.phases import TRAIN, State, is_in_net

AVE = caffe_pb2.PoolingParameter.AVE


class Peer(nn.Module):
    """forward(images, labels) -> {loss name: weighted loss} of a TRAIN-phase NetParameter."""

    def __init__(self, param, shapes, standard=False):
        super().__init__()
        self.parts = nn.ModuleDict()
        self.plan = []  # (kind, layer, key)
        self.layer_of = {}  # parameter name -> layer name
        skip = False
        layers = [layer for layer in param.layer if _runs(layer, standard)]
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if skip:
                skip = False
                continue
            key = layer.name.replace(".", "_").replace("/", "_")
            part = _part(layer, shapes)
            if layer.type == "BatchNorm":
                skip = following is not None and following.type == "Scale"
            if part is not None:
                self.parts[key] = part
                self.layer_of[key] = following.name if skip else layer.name
            self.plan.append((layer, key))

    def forward(self, images, labels):
        blobs, losses = {"data": images, "label": labels}, {}
        for layer, key in self.plan:
            bottoms = [blobs[name] for name in layer.bottom]
            if layer.type == "SoftmaxWithLoss":
                weight = layer.loss_weight[0] if layer.loss_weight else 1.0
                losses[layer.top[0]] = weight * F.cross_entropy(
                    bottoms[0].float().flatten(1), labels
                )
            elif key in self.parts:
                x = bottoms[0].flatten(1) if layer.type == "InnerProduct" else bottoms[0]
                blobs[layer.top[0]] = self.parts[key](x)
            else:
                blobs[layer.top[0]] = _FUNCTIONS[layer.type](layer, bottoms)
        return losses


class Deployed(Peer):
    """forward(images) -> the last top, of a deploy net with its weights."""

    def __init__(self, net):
        shapes = {name: blob.shape for name, blob in net.blobs.items()}
        super().__init__(net.filtered_param, shapes)
        for key, part in self.parts.items():
            blobs = net.params.get(self.layer_of[key], ())
            if isinstance(part, nn.BatchNorm2d):
                normalization = next(layer.name for layer, name in self.plan if name == key)
                mean, variance, weight = (b.data for b in net.params[normalization])
                part.running_mean.copy_(torch.from_numpy(mean / weight))
                part.running_var.copy_(torch.from_numpy(variance / weight))
            for parameter, blob in zip(part.parameters(), blobs, strict=True):
                parameter.data.copy_(torch.from_numpy(blob.data))

    def forward(self, images):
        blobs = {"data": images}
        for layer, key in self.plan:
            bottoms = [blobs[name] for name in layer.bottom]
            if key in self.parts:
                x = bottoms[0].flatten(1) if layer.type == "InnerProduct" else bottoms[0]
                y = self.parts[key](x)
            else:
                y = _FUNCTIONS[layer.type](layer, bottoms)
            blobs[layer.top[0]] = y
        return y


def _runs(layer, standard):
    """Whether a layer runs in training, with or without the auxiliary branch."""
    state = State(TRAIN, stage=["standard"] if standard else [])
    return is_in_net(layer, state) and layer.type not in ("Input", "Data", "Accuracy", "Silence")


def _part(layer, shapes):
    """A module for the layers that have parameters or state."""
    if layer.type == "Convolution":
        options = layer.convolution_param
        return nn.Conv2d(
            shapes[layer.bottom[0]][1],
            options.num_output,
            *window(options),
            groups=options.group,
            bias=options.bias_term,
        )
    if layer.type == "BatchNorm":
        return nn.BatchNorm2d(shapes[layer.bottom[0]][1], eps=layer.batch_norm_param.eps)
    if layer.type == "InnerProduct":
        inputs = 1
        for size in shapes[layer.bottom[0]][1:]:
            inputs *= size
        return nn.Linear(inputs, layer.inner_product_param.num_output)
    if layer.type == "ReLU":
        return nn.ReLU(inplace=True)
    if layer.type == "Dropout":
        return nn.Dropout(layer.dropout_param.dropout_ratio, inplace=True)
    return None


def _pool(layer, bottoms):
    options, x = layer.pooling_param, bottoms[0]
    if options.global_pooling:
        pool = F.adaptive_avg_pool2d if options.pool == AVE else F.adaptive_max_pool2d
        return pool(x, 1)
    pool = F.avg_pool2d if options.pool == AVE else F.max_pool2d
    kernel, stride, pad, _ = window(options)
    return pool(x, kernel, stride, pad, ceil_mode=True)


def _lrn(layer, bottoms):
    options = layer.lrn_param
    return F.local_response_norm(
        bottoms[0], options.local_size, options.alpha, options.beta, options.k
    )


def _power(layer, bottoms):
    options = layer.power_param
    y = bottoms[0] * options.scale + options.shift
    return y if options.power == 1 else y**options.power


_FUNCTIONS = {
    "Softmax": lambda layer, bottoms: bottoms[0].softmax(layer.softmax_param.axis),
    "Power": _power,
    "Pooling": _pool,
    "LRN": _lrn,
    "Eltwise": lambda layer, bottoms: sum(bottoms[1:], bottoms[0]),
    "Concat": lambda layer, bottoms: torch.cat(bottoms, layer.concat_param.axis),
    "Flatten": lambda layer, bottoms: bottoms[0].flatten(1),
}


def train_step(module, optimizer, images, labels, flows, autocast):
    """One step: one backward of the summed losses, or one autograd.grad per flow and its layers.

    flows: [(loss name, [parameters it trains])] or None.
    """
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        losses = module(images, labels)
    if flows is None:
        sum(losses.values()).backward()
    else:
        for index, (loss, parameters) in enumerate(flows):
            gradients = torch.autograd.grad(
                losses[loss], parameters, retain_graph=index < len(flows) - 1
            )
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = (
                    gradient if parameter.grad is None else parameter.grad.add_(gradient)
                )
    optimizer.step()
