"""The building blocks that the models share: each adds named layers to a NetSpec.

A block takes the NetSpec, the name of its first layer and the top below; it returns its own top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Callable

from google.protobuf import text_format

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2
from relaybp.layers.scene_message import SceneDataParameter

Rule = Mapping[str, Any]  # fields of NetStateRule
Branch = Callable[[NetSpec, Top], None]  # hangs layers on a top
Branches = Mapping[str, Branch]  # by the layer or block whose top it takes

MSRA: dict[str, Any] = {"type": "msra"}
ZERO = {"type": "constant"}
# for the scores of networks without BatchNorm
SMALL: dict[str, Any] = {"type": "gaussian", "std": 0.01}
# Caffe's own models let biases learn twice as fast and do not decay them.
WEIGHT_AND_BIAS = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FROZEN = {"lr_mult": 0, "decay_mult": 0}
TRAIN, TEST = {"phase": caffe_pb2.TRAIN}, {"phase": caffe_pb2.TEST}


def relu(n: NetSpec, name: str, x: Top) -> Top:
    """ReLU in place."""
    n[name] = L.ReLU(x, in_place=True)
    return n[name]


def conv_relu(
    n: NetSpec, name: str, x: Top, num_output: int, kernel_size: int, **shape: Any
) -> Top:
    """Convolution with bias, then ReLU."""
    n[name] = L.Convolution(
        x,
        num_output=num_output,
        kernel_size=kernel_size,
        **shape,
        param=WEIGHT_AND_BIAS,
        weight_filler=MSRA,
        bias_filler=ZERO,
    )
    return relu(n, f"{name}_relu", n[name])


def conv(n: NetSpec, name: str, x: Top, num_output: int, **shape: Any) -> Top:
    """Convolution without bias, as before a BatchNorm."""
    n[name] = L.Convolution(x, num_output=num_output, bias_term=False, **shape, weight_filler=MSRA)
    return n[name]


def batch_norm(
    n: NetSpec, name: str, scale_name: str, x: Top, in_place: bool = True, eps: float = 1e-5
) -> Top:
    """BatchNorm and the Scale that follows it.

    The running statistics keep 0.95 of themselves per batch (Caffe's default is 0.999), so that a
    test after a few hundred iterations already sees the statistics of the current weights.
    """
    n[name] = L.BatchNorm(
        x, in_place=in_place, param=[FROZEN] * 3, moving_average_fraction=0.95, eps=eps
    )
    n[scale_name] = L.Scale(n[name], in_place=True, bias_term=True)
    return n[scale_name]


def conv_bn_relu(
    n: NetSpec, name: str, x: Top, num_output: int, eps: float = 1e-5, **shape: Any
) -> Top:
    """Convolution, BatchNorm, Scale and ReLU, called `name`, `name`_bn, ..."""
    x = conv(n, name, x, num_output, **shape)
    return relu(n, f"{name}_relu", batch_norm(n, f"{name}_bn", f"{name}_scale", x, eps=eps))


def fc(n: NetSpec, name: str, x: Top, num_output: int, weight_filler: dict[str, Any] = MSRA) -> Top:
    """Fully connected layer."""
    n[name] = L.InnerProduct(
        x,
        num_output=num_output,
        param=WEIGHT_AND_BIAS,
        weight_filler=weight_filler,
        bias_filler=ZERO,
    )
    return n[name]


def pool(n: NetSpec, name: str, x: Top, method: str = "MAX", **shape: Any) -> Top:
    """Pooling: method MAX or AVE."""
    n[name] = L.Pooling(x, pool=getattr(P.Pooling, method), **shape)
    return n[name]


def fc_relu_drop(n: NetSpec, number: int, x: Top, num_output: int = 4096) -> Top:
    """fcN, ReLU and dropout 0.5 in place, as VGG's fc6 and fc7."""
    x = relu(n, f"fc{number}_relu", fc(n, f"fc{number}", x, num_output))
    n[f"drop{number}"] = L.Dropout(x, in_place=True, dropout_ratio=0.5)
    return n[f"drop{number}"]


def spp(n: NetSpec, x: Top, side: int = 14, bins: Sequence[int] = (1, 2, 3, 7)) -> Top:
    """Spatial pyramid: max pooling of a side x side map into 1x1, 2x2, ... bins, in one vector."""
    levels = []
    for count in bins:
        size = ceil(side / count)
        level = pool(n, f"spp{count}", x, kernel_size=size, stride=size)
        n[f"spp{count}_flat"] = L.Flatten(level)
        levels.append(n[f"spp{count}_flat"])
    n["spp"] = L.Concat(*levels)
    return n["spp"]


def data(source: str, batch_size: int, rule: Rule, **transform: Any) -> tuple[Top, Top]:
    """The tops `data` and `label` of Caffe's own layer for an LMDB."""
    return L.Data(
        ntop=2,
        include=rule,
        transform_param=transform,
        source=source,
        batch_size=batch_size,
        backend=P.Data.LMDB,
    )


def scene_data(source: str, batch_size: int, rule: Rule, **options: Any) -> tuple[Top, Top]:
    """The tops `data` and `label` of the project's SceneData layer (layers/README.md)."""
    param = SceneDataParameter(source=source, batch_size=batch_size, **options)
    return L.Python(
        ntop=2,
        include=rule,
        module="relaybp.layers.scene_data",
        layer="SceneData",
        param_str=text_format.MessageToString(param, as_one_line=True).strip(),
    )


def loss_and_accuracy(n: NetSpec, scores: Top, prefix: str = "", **weight: float) -> None:
    """The loss of the class scores; top-1 and top-5 accuracy in the TEST phase."""
    n[f"{prefix}loss"] = L.SoftmaxWithLoss(scores, n.label, **weight)
    n[f"{prefix}accuracy_top1"] = L.Accuracy(scores, n.label, include=TEST)
    n[f"{prefix}accuracy_top5"] = L.Accuracy(scores, n.label, include=TEST, top_k=5)


def googlenet_head(name: str, classes: int, loss_weight: float = 0.3) -> Branch:
    """A branch with GoogLeNet's auxiliary classifier: its layers are called `name`_..."""

    def add_to(n: NetSpec, x: Top) -> None:
        x = pool(n, f"{name}_pool", x, "AVE", kernel_size=5, stride=3)
        x = conv_relu(n, f"{name}_conv", x, 128, 1)
        x = relu(n, f"{name}_fc_relu", fc(n, f"{name}_fc", x, 1024))
        n[f"{name}_drop"] = L.Dropout(x, in_place=True, dropout_ratio=0.7)
        x = fc(n, f"{name}_classifier", n[f"{name}_drop"], classes, weight_filler=SMALL)
        n[f"{name}_loss"] = L.SoftmaxWithLoss(x, n.label, loss_weight=loss_weight)

    return add_to
