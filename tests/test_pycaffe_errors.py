"""Wrong uses of pycaffe: what the user is told."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""


def net(text=NET):
    return caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TEST)


def reshaped(*shape):
    made = net()
    made.blobs["data"].reshape(*shape)
    return made


def one_layer(text):
    return net(f'layer {{ name: "x" {text} }}')


CASES = {
    "no path": (lambda: caffe.Net(None, caffe.TEST), "expected the path of a file; found None"),
    "a file's number": (lambda: caffe.Net(0, caffe.TEST), "the path of a file; found 0"),
    "no solver": (lambda: caffe.SGDSolver(None), "expected the path of a file; found None"),
    "no phase": (lambda: caffe.Net("n"), "phase must be caffe.TRAIN or caffe.TEST; found None"),
    "no weights": (lambda: caffe.Net(net().param, "none", caffe.TEST), "none: cannot be read"),
    "input": (lambda: net().forward(date=0), r"each of \['data'\]; found \['date'\]"),
    "batch": (lambda: net().forward(data=np.zeros((1, 3, 8, 8))), "'data' has a batch of 2; the"),
    "size": (
        lambda: net().forward(data=np.zeros((2, 3, 9, 9))),
        r"'data' has shape \(2, 3, 8, 8\); the array has shape \(2, 3, 9, 9\): reshape",
    ),
    "start": (lambda: net().forward(start="cnv"), "no layer 'cnv'; did you mean 'conv'"),
    "blob": (lambda: net().forward(blobs=["pro"]), "no blob 'pro'; did you mean 'prob'"),
    "range": (lambda: net().forward(start="prob", end="conv"), "this net has layers 0 to 2"),
    "no layer": (lambda: net('name: "x"').forward(), "this net has no layer"),
    "channels": (lambda: reshaped(2, 4, 8, 8).forward(), "'conv'.* weights are for 3 input"),
    "axes": (lambda: reshaped(*[1] * 33), "a blob of 33 axes: at most 32"),
    "number": (lambda: reshaped(()).forward(), r"'conv' .*cannot take bottoms of the shapes"),
    "number, reshape": (lambda: reshaped(()).reshape(), r"'conv' .*cannot take bottoms"),
    "first bottom": (lambda: one_layer('type: "ReLU" bottom: "y"'), "'y', .*; there is none"),
    "image": (lambda: caffe.io.load_image("none.png"), "none.png: No such file .*current folder"),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_uses_are_explained(name):
    use, message = CASES[name]
    with pytest.raises(caffe.CaffeError, match=message):
        use()


def test_paths_may_be_path_objects(tmp_path):
    path, weights = tmp_path / "net.prototxt", tmp_path / "w.caffemodel"
    path.write_text(NET)
    first = caffe.Net(path, caffe.TEST)
    first.params["conv"][0].data[...] = 3
    first.save(weights)
    for made in (
        caffe.Net(path, caffe.TEST, weights=weights),
        caffe.Net(path, weights, caffe.TEST),
        caffe.Net(path, caffe.TEST, weights=[Path(weights)]),
    ):
        assert (made.params["conv"][0].data == 3).all()
