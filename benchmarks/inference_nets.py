"""The nets of benchmarks/inference.py: from prototxt/, and three well-known ones as NetSpec."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import caffe
from caffe.files.text import read_net
from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2

PROTOTXT = Path(__file__).parents[1] / "prototxt"


def _input(size: int) -> NetSpec:
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, size, size]})
    return n


def _conv(n: NetSpec, name: str, x: Top, outputs: int, kernel: int, **options: object) -> Top:
    n[name] = L.Convolution(x, num_output=outputs, kernel_size=kernel, **options)
    n["relu_" + name] = L.ReLU(n[name], in_place=True)
    return n[name]


def _pool(n: NetSpec, name: str, x: Top, kernel: int, stride: int, pad: int = 0) -> Top:
    n[name] = L.Pooling(x, kernel_size=kernel, stride=stride, pad=pad)
    return n[name]


def _lrn(n: NetSpec, name: str, x: Top) -> Top:
    n[name] = L.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
    return n[name]


def _scores(n: NetSpec, x: Top) -> caffe_pb2.NetParameter:
    n.scores = L.InnerProduct(x, num_output=1000)
    n.prob = L.Softmax(n.scores)
    return n.to_proto()


def caffenet() -> caffe_pb2.NetParameter:
    """BVLC's reference CaffeNet (Krizhevsky et al., 2012, pooled before it is normalized)."""
    n = _input(227)
    x = _lrn(n, "norm1", _pool(n, "pool1", _conv(n, "conv1", n.data, 96, 11, stride=4), 3, 2))
    x = _conv(n, "conv2", x, 256, 5, pad=2, group=2)
    x = _lrn(n, "norm2", _pool(n, "pool2", x, 3, 2))
    x = _conv(n, "conv3", x, 384, 3, pad=1)
    x = _conv(n, "conv4", x, 384, 3, pad=1, group=2)
    x = _pool(n, "pool5", _conv(n, "conv5", x, 256, 3, pad=1, group=2), 3, 2)
    for name in ("fc6", "fc7"):
        n[name] = L.InnerProduct(x, num_output=4096)
        n["relu_" + name] = L.ReLU(n[name], in_place=True)
        n["drop_" + name] = L.Dropout(n[name], in_place=True)
        x = n[name]
    return _scores(n, x)


INCEPTIONS = {  # name: 1 x 1, 3 x 3 reduced and full, 5 x 5 reduced and full, pooled
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet() -> caffe_pb2.NetParameter:
    """GoogLeNet (Szegedy et al., 2015) without its auxiliary branches."""
    n = _input(224)
    x = _conv(n, "conv1", n.data, 64, 7, stride=2, pad=3)
    x = _conv(n, "conv2_reduce", _lrn(n, "norm1", _pool(n, "pool1", x, 3, 2)), 64, 1)
    x = _pool(n, "pool2", _lrn(n, "norm2", _conv(n, "conv2", x, 192, 3, pad=1)), 3, 2)
    for name, sizes in INCEPTIONS.items():
        x = _inception(n, name, x, sizes)
        if name in ("3b", "4e"):
            x = _pool(n, "pool" + name, x, 3, 2)
    n.pool5 = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    n.drop = L.Dropout(n.pool5, in_place=True)
    return _scores(n, n.pool5)


def _inception(n: NetSpec, name: str, x: Top, sizes: tuple[int, ...]) -> Top:
    one, reduce3, full3, reduce5, full5, pooled = sizes
    branches = [
        _conv(n, name + "_1x1", x, one, 1),
        _conv(n, name + "_3x3", _conv(n, name + "_3x3_reduce", x, reduce3, 1), full3, 3, pad=1),
        _conv(n, name + "_5x5", _conv(n, name + "_5x5_reduce", x, reduce5, 1), full5, 5, pad=2),
        _conv(n, name + "_pooled", _pool(n, name + "_pool", x, 3, 1, 1), pooled, 1),
    ]
    n[name] = L.Concat(*branches)
    return n[name]


def mobilenet() -> caffe_pb2.NetParameter:
    """MobileNet (Howard et al., 2017), its convolutions by channel as groups."""
    n = _input(224)
    x = _normalized(n, "conv1", n.data, 32, 3, stride=2, pad=1)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    channels = 32
    for index, (outputs, stride) in enumerate([*plan, (1024, 2), (1024, 1)]):
        name = f"conv{index + 2}"
        depthwise = {"stride": stride, "pad": 1, "group": channels}
        x = _normalized(n, name + "_dw", x, channels, 3, **depthwise)
        x = _normalized(n, name + "_pw", x, outputs, 1)
        channels = outputs
    n.pool = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    return _scores(n, n.pool)


def _normalized(n: NetSpec, name: str, x: Top, outputs: int, kernel: int, **options: object) -> Top:
    n[name] = L.Convolution(x, num_output=outputs, kernel_size=kernel, bias_term=False, **options)
    n["bn_" + name] = L.BatchNorm(n[name], in_place=True)
    n["scale_" + name] = L.Scale(n[name], bias_term=True, in_place=True)
    n["relu_" + name] = L.ReLU(n[name], in_place=True)
    return n[name]


NETS = {
    "caffenet": caffenet,
    "googlenet": googlenet,
    "resnet50": lambda: read_net(str(PROTOTXT / "resnet50_relay/deploy.prototxt")),
    "vgg16": lambda: read_net(str(PROTOTXT / "vgg16/deploy.prototxt")),
    "mobilenet": mobilenet,
    "inception_v3": lambda: read_net(str(PROTOTXT / "inception_v3/deploy.prototxt")),
}


def prepare(name: str, batch: int, folder: str) -> tuple[str, str]:
    """Write the net with seeded weights; return the paths of its prototxt and its weights."""
    base = os.path.join(folder, name)
    path, weights = f"{base}_{batch}.prototxt", f"{base}.caffemodel"
    param = NETS[name]()
    param.layer[0].input_param.shape[0].dim[0] = batch
    os.makedirs(folder, exist_ok=True)
    with open(path, "w") as file:
        file.write(str(param))
    if not os.path.exists(weights):
        net = caffe.Net(path, caffe.TEST)
        _fill(net)
        net.save(weights)
    return path, weights


def _fill(net: caffe.Net) -> None:
    """Seeded parameters that keep the values in range; statistics as if trained."""
    random = np.random.RandomState(0)
    for name, blobs in net.params.items():
        kind, shape = net.layer_dict[name].type, blobs[0].shape
        for index, blob in enumerate(blobs):
            if kind == "BatchNorm":
                values = [random.randn(*blob.shape) / 5, random.uniform(0.5, 2, blob.shape), 1.0]
                blob.data[...] = values[index]
            elif kind == "Scale":
                blob.data[...] = random.uniform(0.1, 0.5, blob.shape)
            elif index == 0:
                blob.data[...] = random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
