"""Small deploy nets modelled on well-known ones, for other readers of Caffe models."""

import numpy as np

from caffe.files.text import parse_text
from caffe.proto import caffe_pb2


def net(name, shape, *layers):
    """The text of a deploy net: layers are (name, type, bottoms, options) and name their tops."""
    dims = " ".join(f"dim: {size}" for size in shape)
    text = [
        f'name: "{name}" layer {{ name: "data" type: "Input" top: "data" '
        f"input_param {{ shape {{ {dims} }} }} }}"
    ]
    for layer_name, kind, bottoms, *rest in layers:
        bottom = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        in_place = kind in ("ReLU", "Dropout", "BatchNorm", "Scale")
        top = bottoms if in_place else layer_name
        text.append(
            f'layer {{ name: "{layer_name}" type: "{kind}" {bottom} top: "{top}" '
            f"{' '.join(rest)} }}"
        )
    return "\n".join(text)


def conv(name, bottom, num_output, kernel, more=""):
    return (
        name,
        "Convolution",
        bottom,
        f"convolution_param {{ num_output: {num_output} kernel_size: {kernel} {more} }}",
    )


def pool(name, bottom, kernel, stride, kind="MAX", more=""):
    return (
        name,
        "Pooling",
        bottom,
        f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} {more} }}",
    )


def fc(name, bottom, num_output):
    return (name, "InnerProduct", bottom, f"inner_product_param {{ num_output: {num_output} }}")


def relu(bottom):
    return (f"relu_{bottom}", "ReLU", bottom)


def inception(name, bottom):
    """Four branches, concatenated."""
    a, b, c, d = (f"{name}_{branch}" for branch in "abcd")
    return [
        conv(a, bottom, 4, 1),
        relu(a),
        conv(f"{b}_reduce", bottom, 3, 1),
        relu(f"{b}_reduce"),
        conv(b, f"{b}_reduce", 5, 3, "pad: 1"),
        relu(b),
        conv(c, bottom, 3, 5, "pad: 2"),
        relu(c),
        pool(f"{d}_pool", bottom, 3, 1, more="pad: 1"),
        conv(d, f"{d}_pool", 2, 1),
        relu(d),
        (name, "Concat", f"{a} {b} {c} {d}"),
    ]


def conv_bn(name, bottom, num_output, kernel, more=""):
    return [
        conv(name, bottom, num_output, kernel, f"bias_term: false {more}"),
        (f"bn_{name}", "BatchNorm", name),
        (f"scale_{name}", "Scale", name, "scale_param { bias_term: true }"),
    ]


def block(name, bottom, num_output, stride):
    """A bottleneck with a projection."""
    a, b, c, side = (f"{name}_{branch}" for branch in ("a", "b", "c", "side"))
    return [
        *conv_bn(side, bottom, num_output, 1, f"stride: {stride}"),
        *conv_bn(a, bottom, 4, 1, f"stride: {stride}"),
        relu(a),
        *conv_bn(b, a, 4, 3, "pad: 1"),
        relu(b),
        *conv_bn(c, b, num_output, 1),
        (name, "Eltwise", f"{side} {c}"),
        relu(name),
    ]


def separable(name, bottom, channels, num_output, more):
    """A convolution by channel and one of 1 x 1."""
    return [
        *conv_bn(f"{name}_dw", bottom, channels, 3, f"group: {channels} {more}"),
        relu(f"{name}_dw"),
        *conv_bn(name, f"{name}_dw", num_output, 1),
    ]


NETS = {
    "lenet": net(
        "lenet",
        (2, 1, 28, 28),
        conv("conv1", "data", 6, 5),
        pool("pool1", "conv1", 2, 2),
        conv("conv2", "pool1", 8, 5),
        pool("pool2", "conv2", 2, 2),
        fc("ip1", "pool2", 20),
        relu("ip1"),
        fc("ip2", "ip1", 10),
        ("prob", "Softmax", "ip2"),
    ),
    "alexnet": net(
        "alexnet",
        (2, 3, 67, 67),
        conv("conv1", "data", 8, 11, "stride: 4"),
        relu("conv1"),
        ("norm1", "LRN", "conv1", "lrn_param { local_size: 5 alpha: 0.1 beta: 0.75 }"),
        pool("pool1", "norm1", 3, 2),
        conv("conv2", "pool1", 8, 5, "pad: 2 group: 2"),
        relu("conv2"),
        pool("pool2", "conv2", 3, 2),
        fc("fc6", "pool2", 32),
        relu("fc6"),
        ("drop6", "Dropout", "fc6"),
        fc("fc8", "fc6", 10),
        ("prob", "Softmax", "fc8"),
    ),
    "googlenet": net(
        "googlenet",
        (2, 3, 46, 46),
        conv("conv1", "data", 8, 7, "stride: 2 pad: 3"),
        relu("conv1"),
        pool("pool1", "conv1", 3, 2),
        ("norm1", "LRN", "pool1", "lrn_param { local_size: 5 alpha: 0.1 }"),
        *inception("in3", "norm1"),
        pool("pool3", "in3", 3, 2),
        *inception("in4", "pool3"),
        pool("pool5", "in4", 5, 3, "AVE", "pad: 1"),
        ("drop", "Dropout", "pool5"),
        fc("fc", "pool5", 10),
        ("prob", "Softmax", "fc"),
    ),
    "resnet": net(
        "resnet",
        (2, 3, 49, 49),
        *conv_bn("conv1", "data", 6, 7, "stride: 2 pad: 3"),
        relu("conv1"),
        pool("pool1", "conv1", 3, 2),
        *block("res2", "pool1", 12, 1),
        *block("res3", "res2", 16, 2),
        ("pool5", "Pooling", "res3", "pooling_param { pool: AVE global_pooling: true }"),
        fc("fc", "pool5", 10),
        ("prob", "Softmax", "fc"),
    ),
    "mobilenet": net(
        "mobilenet",
        (2, 3, 21, 23),
        *conv_bn("conv1", "data", 32, 3, "stride: 2 pad: 1"),
        relu("conv1"),
        *separable("conv2", "conv1", 32, 32, "pad: 1"),
        ("sum", "Eltwise", "conv2 conv1"),
        relu("sum"),
        *separable("conv3", "sum", 32, 20, "pad: 1 stride: 2"),
        *separable("conv4", "conv3", 20, 48, ""),  # not for own kernels
        relu("conv4"),
        *separable("conv5", "conv4", 48, 7, "pad: 2 dilation: 2"),
        ("pool", "Pooling", "conv5", "pooling_param { pool: AVE global_pooling: true }"),
        fc("fc", "pool", 10),
        ("prob", "Softmax", "fc"),
    ),
}


def message(text):
    """A NetParameter from its text."""
    return parse_text(text, caffe_pb2.NetParameter())


def fill(net, seed=0):
    """Seeded parameters that keep the values in range; statistics as if trained."""
    random = np.random.RandomState(seed)
    for node in net.nodes:
        for index, blob in enumerate(node.layer.blobs):
            if node.layer.type == "BatchNorm" and index < 3:
                blob.data[...] = [
                    random.randn(*blob.shape) * 0.2,
                    random.uniform(0.5, 2, blob.shape),
                    2.0,
                ][index]
            elif index == 0 and node.layer.type != "Scale":
                fan_in = np.prod(blob.shape[1:])
                blob.data[...] = random.randn(*blob.shape) * np.sqrt(2 / max(fan_in, 1))
            else:
                blob.data[...] = random.uniform(0.5, 1.0, blob.shape)
    return net


def batch(net, seed=1):
    """A seeded batch for the net's only input."""
    (name,) = net.inputs
    return np.random.RandomState(seed).randn(*net.blobs[name].shape).astype(np.float32)
