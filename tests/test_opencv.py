"""OpenCV's own reader of Caffe models gives the predictions that this engine gives."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
import deploy_nets
from caffe.files.text import read_net, write_text

ROOT = Path(__file__).parent.parent


def predict(deploy, weights, images):
    """The output of OpenCV's net."""
    net = cv2.dnn.readNetFromCaffe(str(deploy), str(weights))
    net.setInput(images)
    return net.forward()


@pytest.mark.parametrize("name", deploy_nets.NETS)
def test_opencv_predicts_the_same(tmp_path, name):
    deploy, weights = tmp_path / "deploy.prototxt", tmp_path / "a.caffemodel"
    deploy.write_text(deploy_nets.NETS[name])
    net = deploy_nets.fill(caffe.Net(str(deploy), caffe.TEST))
    net.save(str(weights))
    images = deploy_nets.batch(net)
    mine = net.forward(data=images)["prob"]
    assert np.ptp(mine) > 1e-3  # not all alike
    np.testing.assert_allclose(predict(deploy, weights, images), mine, rtol=1e-4, atol=1e-6)


SOLVER = """
base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 5 snapshot_prefix: "{prefix}"
random_seed: 1 snapshot_diff: true
net_param {{ {layers}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 2 }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }} }}
"""


def test_opencv_reads_what_was_trained_here(tmp_path):
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(deploy_nets.NETS["resnet"])
    layers = deploy_nets.NETS["resnet"].rpartition('\nlayer { name: "prob"')[0]
    (tmp_path / "solver.prototxt").write_text(SOLVER.format(prefix=tmp_path / "run", layers=layers))
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    deploy_nets.fill(solver.net)
    images = np.random.RandomState(0).randn(2, 3, 49, 49).astype(np.float32)
    solver.net.blobs["data"].data[...] = images
    solver.net.blobs["label"].data[...] = [3, 7]
    solver.solve()
    weights = tmp_path / "run_iter_5.caffemodel"
    mine = caffe.Net(str(deploy), caffe.TEST, weights=str(weights)).forward(data=images)["prob"]
    np.testing.assert_allclose(predict(deploy, weights, images), mine, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["resnet20", "vgg13"])
def test_opencv_reads_the_committed_deploy_nets(tmp_path, model):
    """The model's layers on a smaller image, with its own weight fillers."""
    param = read_net(str(ROOT / "prototxt" / model / "deploy.prototxt"))
    shape = param.layer[0].input_param.shape[0]
    if shape.dim[2] > 64:
        shape.dim[2] = shape.dim[3] = 64
    for layer in param.layer:
        if layer.type == "InnerProduct" and layer.inner_product_param.num_output > 100:
            layer.inner_product_param.num_output = 100  # the size of its weights is not the point
    deploy, weights = tmp_path / "deploy.prototxt", tmp_path / "a.caffemodel"
    write_text(str(deploy), param)
    net = deploy_nets.fill(caffe.Net(str(deploy), caffe.TEST))
    net.save(str(weights))
    images = deploy_nets.batch(net)
    mine = net.forward(**{net.inputs[0]: images})[net.outputs[0]]
    theirs = predict(deploy, weights, images)
    np.testing.assert_allclose(theirs, mine.reshape(theirs.shape), rtol=1e-3, atol=1e-5)
