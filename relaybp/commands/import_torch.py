"""Turn a torchvision state dict of a ResNet or VGG into a Caffe model.

    python tools/import_torch.py resnet50.pth prototxt/resnet50_relay/deploy.prototxt OUT

writes OUT.caffemodel and OUT.prototxt, the deploy net as torchvision computes it: its ResNets
stride in the 3x3 convolutions and pad the first pooling. The first convolution is rewritten for
what Caffe nets take, BGR of 0 to 255 minus the mean (103.53, 116.28, 123.675); with --keep-colors
it takes torchvision's normalised RGB.
"""

import re
import sys

import numpy as np
import torch

import caffe
from caffe.files import text
from caffe.proto import caffe_pb2
from caffe_plain.errors import reason

from ..cli import Parser

STD = np.array([0.229, 0.224, 0.225])  # torchvision's, of RGB in [0, 1]
BATCH_NORM_EPS = 1e-5
BRANCHES = {
    "branch2a": ("conv1", "bn1"),
    "branch2b": ("conv2", "bn2"),
    "branch2c": ("conv3", "bn3"),
    "branch1": ("downsample.0", "downsample.1"),
}


class StateDict:
    """A state dict that knows which of its entries have been asked for."""

    def __init__(self, entries):
        self.arrays = {
            key[7:] if key.startswith("module.") else key: value.detach().float().numpy()
            for key, value in entries.items()
            if not key.endswith("batches_tracked")
        }
        self.unused = set(self.arrays)

    def __contains__(self, key):
        return key in self.arrays

    def take(self, key):
        """The array of an entry."""
        if key not in self.arrays:
            raise caffe.WeightsError(
                f"the state dict has no {key!r}; it has {', '.join(sorted(self.arrays)[:8])}, ..."
            )
        self.unused.discard(key)
        return self.arrays[key]

    def layer(self, name):
        """[weight] or [weight, bias] of a layer."""
        return [
            self.take(name + suffix)
            for suffix in (".weight", ".bias")
            if suffix == ".weight" or name + suffix in self.arrays
        ]

    def statistics(self, name):
        """BatchNorm's blobs in Caffe: mean, variance and the factor they are divided by."""
        return [self.take(name + ".running_mean"), self.take(name + ".running_var"), np.ones(1)]


def resnet_weights(state, param):
    """{layer: arrays} of a ResNet with He's layer names (res2a_branch2a, bn2a_branch2a, ...)."""
    weights = {
        "conv1": state.layer("conv1"),
        "bn_conv1": state.statistics("bn1"),
        "scale_conv1": state.layer("bn1"),
    }
    blocks = {}  # stage -> its blocks, in order
    for layer in param.layer:
        found = re.fullmatch(r"res(\d)(\w+)_(branch\d\w?)", layer.name)
        if layer.type == "Convolution" and found:
            stage, block, branch = found.groups()
            order = blocks.setdefault(stage, [])
            if block not in order:
                order.append(block)
            prefix = f"layer{int(stage) - 1}.{order.index(block)}."
            convolution, norm = (prefix + name for name in BRANCHES[branch])
            place = f"{stage}{block}_{branch}"
            weights[layer.name] = state.layer(convolution)
            weights["bn" + place] = state.statistics(norm)
            weights["scale" + place] = state.layer(norm)
        elif layer.type == "InnerProduct":
            weights[layer.name] = state.layer("fc")
    return weights


def vgg_weights(state, param):
    """{layer: arrays} of a VGG: convolutions and fc layers in order, batch norms folded in."""
    kinds = {"Convolution": "features", "InnerProduct": "classifier"}
    weights = {}
    for kind, part in kinds.items():
        names = [layer.name for layer in param.layer if layer.type == kind]
        keys = sorted(
            {
                int(key.split(".")[1])
                for key in state.arrays
                if key.startswith(part) and key.endswith(".weight") and not _is_norm(state, key)
            }
        )
        if len(names) != len(keys):
            raise caffe.WeightsError(
                f"the net has {len(names)} {kind} layers; the state dict has {len(keys)} in {part}"
            )
        for name, index in zip(names, keys):
            weights[name] = state.layer(f"{part}.{index}")
            norm = f"{part}.{index + 1}"
            if norm + ".running_mean" in state:
                weights[name] = _fold(*weights[name], state, norm)
    return weights


def _is_norm(state, key):
    return key[: -len("weight")] + "running_mean" in state


def _fold(weight, bias, state, norm):
    """Weight and bias of a convolution with the BatchNorm that follows it."""
    mean, variance, _ = state.statistics(norm)
    scale, shift = state.layer(norm)
    factor = scale / np.sqrt(variance + BATCH_NORM_EPS)
    return [weight * factor[:, None, None, None], (bias - mean) * factor + shift]


def as_torchvision(param):
    """The deploy net with torchvision's strides and padding if it is a ResNet."""
    changed = caffe_pb2.NetParameter()
    changed.CopyFrom(param)
    layers = {layer.name: layer for layer in changed.layer}
    for name, layer in layers.items():
        if name.endswith("_branch2a") and layer.type == "Convolution":
            stride = list(layer.convolution_param.stride)
            layer.convolution_param.stride[:] = [1]
            layers[name[:-1] + "b"].convolution_param.stride[:] = stride or [1]
    if "res2a_branch2a" in layers:
        pool = next(layer.pooling_param for layer in changed.layer if layer.type == "Pooling")
        pool.pad, pool.round_mode = 1, pool.FLOOR
    return changed


def for_bgr(weight):
    """The first convolution for BGR of 0 to 255 minus the mean."""
    return (weight / (255 * STD)[None, :, None, None])[:, ::-1]


def _maker(state):
    """The function that takes the weights out of a state dict, by the names in it."""
    if "layer1.0.conv1.weight" in state:
        return resnet_weights
    if any(key.startswith(("features.", "classifier.")) for key in state.arrays):
        return vgg_weights
    raise caffe.WeightsError(
        "the state dict is neither of a ResNet nor of a VGG of torchvision: it has "
        f"{', '.join(sorted(state.arrays)[:4])}"
    )


def convert(entries, param, keep_colors=False):
    """The caffe.Net of a deploy NetParameter with the weights of a state dict."""
    state, param = StateDict(entries), as_torchvision(param)
    make = _maker(state)
    weights = make(state, param)
    if state.unused:
        raise caffe.WeightsError(
            f"the net has no place for {', '.join(sorted(state.unused)[:8])}: "
            "it is of another architecture"
        )
    first = next(layer.name for layer in param.layer if layer.type == "Convolution")
    if not keep_colors:
        weights[first][0] = for_bgr(weights[first][0])
    net = caffe.Net(param, caffe.TEST)
    for name, blobs in net.params.items():
        if name not in weights or len(weights[name]) != len(blobs):
            raise caffe.WeightsError(
                f"layer {name!r} has {len(blobs)} blobs; the state dict has "
                f"{len(weights.get(name, ()))} for it"
            )
        for blob, array in zip(blobs, weights[name]):
            if tuple(array.shape) != tuple(blob.shape):
                raise caffe.WeightsError(
                    f"layer {name!r}: the state dict has shape {array.shape}; "
                    f"the net has {tuple(blob.shape)}"
                )
            blob.data[...] = array
    return net


def read_state_dict(path: str) -> dict:
    """The entries of a state dict that torch.save wrote; a pickle in it runs no code."""
    try:
        entries = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise caffe.WeightsError(f"{path}: {_why_not(path, error)}") from error
    if not isinstance(entries, dict):
        raise caffe.WeightsError(f"{path}: expected a state dict, found {type(entries).__name__}")
    entries = entries.get("state_dict", entries)
    for key, value in entries.items():
        if not isinstance(value, torch.Tensor):
            raise caffe.WeightsError(
                f"{path}: entry {key!r} is no array of weights but {type(value).__name__}; save "
                "the state dict alone: torch.save(model.state_dict(), ...)"
            )
    return entries


def _why_not(path: str, error: Exception) -> str:
    """What a file is that torch.load does not take, and what to do."""
    if "Unsupported global" in str(error):
        return (
            "holds more than weights, perhaps a whole model; save its weights alone: "
            "torch.save(model.state_dict(), ...)"
        )
    return "not a state dict of PyTorch (.pth); the order is WEIGHTS.pth DEPLOY.prototxt OUT"


def main(args=None):
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", help="a file that torch.save wrote (.pth)")
    parser.add_argument("deploy", help="the deploy.prototxt of the same architecture")
    parser.add_argument("output", help="the files to write, without .caffemodel and .prototxt")
    parser.add_argument(
        "--keep-colors", action="store_true", help="keep torchvision's input: normalised RGB"
    )
    options = parser.parse_args(args)
    try:
        entries = read_state_dict(options.weights)
        param = text.read_text(options.deploy, caffe_pb2.NetParameter())
        net = convert(entries, param, options.keep_colors)
        net.save(options.output + ".caffemodel")
        text.write_text(options.output + ".prototxt", as_torchvision(param))
    except (caffe.CaffeError, OSError) as error:
        sys.exit(f"import_torch: {reason(error)}")
    count = sum(blob.count for blobs in net.params.values() for blob in blobs)
    print(f"{options.output}.caffemodel: {len(net.params)} layers, {count:,} parameters")
