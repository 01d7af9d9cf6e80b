"""A pycaffe script in the style of pycaffe's early years; it runs on any Caffe.

    python3 old_style_script.py FOLDER

Trains a small net with a Python loss layer, fine-tunes it with other layers on top, visualises
filters, casts its fully connected layers into convolutions, classifies, and changes an image by
gradient ascent. Everything that it computed goes to FOLDER/found.npz. What BVLC Caffe computed is
tests/golden/old_style_script.npz.
"""

from __future__ import print_function

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2


class EuclideanLossLayer(caffe.Layer):
    """Half the squared distance of two blobs, in Python."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")
        self.factor = float(eval(self.param_str)["factor"])

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.difference = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.difference[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = self.factor * np.sum(self.difference**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = self.factor * sign * self.difference / bottom[i].num


def trunk(n, learn):
    """The layers that training and fine-tuning share."""
    param = [dict(lr_mult=learn, decay_mult=learn), dict(lr_mult=2 * learn, decay_mult=0)]
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=6, param=param)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=3, num_output=8, param=param)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=16, param=param)
    n.relu1 = L.ReLU(n.fc1, in_place=True)


def write_nets(folder):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[4, 1, 20, 20]))
    n.target = L.Input(shape=dict(dim=[4, 3]))
    trunk(n, 1)
    n.score = L.InnerProduct(n.relu1, num_output=3)
    n.loss = L.Python(
        n.score,
        n.target,
        module="old_style_script",
        layer="EuclideanLossLayer",
        param_str=str(dict(factor=0.5)),
        loss_weight=1,
    )
    write(folder, "train.prototxt", n.to_proto())

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[4, 1, 20, 20]))
    n.label = L.Input(shape=dict(dim=[4]))
    trunk(n, 0)
    n.score_fine = L.InnerProduct(n.relu1, num_output=5)
    n.loss = L.SoftmaxWithLoss(n.score_fine, n.label)
    n.accuracy = L.Accuracy(n.score_fine, n.label)
    write(folder, "fine.prototxt", n.to_proto())

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 20, 20]))
    trunk(n, 1)
    n.score_fine = L.InnerProduct(n.relu1, num_output=5)
    n.prob = L.Softmax(n.score_fine)
    net = n.to_proto()
    net.force_backward = True
    write(folder, "deploy.prototxt", net)

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 32, 36]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=6)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=3, num_output=8)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    setattr(n, "fc1-conv", L.Convolution(n.pool2, kernel_size=3, num_output=16))
    n.relu1 = L.ReLU(getattr(n, "fc1-conv"), in_place=True)
    setattr(n, "score_fine-conv", L.Convolution(n.relu1, kernel_size=1, num_output=5))
    n.prob = L.Softmax(getattr(n, "score_fine-conv"))
    write(folder, "full_conv.prototxt", n.to_proto())


def write(folder, name, net):
    with open(os.path.join(folder, name), "w") as f:
        f.write(str(net))


def write_solver(folder, net, name):
    s = caffe_pb2.SolverParameter()
    s.train_net = os.path.join(folder, net)
    s.base_lr, s.momentum, s.weight_decay = 0.002, 0.9, 5e-4
    s.lr_policy, s.gamma, s.power = "inv", 0.01, 0.75
    s.max_iter, s.display = 100, 1000
    s.snapshot_prefix = os.path.join(folder, "snap")
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(str(s))
    return path


def fill(net, random):
    for name, blobs in net.params.items():
        for blob in blobs:
            scale = 1.5 / np.sqrt(max(np.prod(blob.data.shape[1:]), 8))
            blob.data[...] = random.randn(*blob.data.shape) * scale


def train(folder, random, found):
    solver = caffe.SGDSolver(write_solver(folder, "train.prototxt", "solver.prototxt"))
    fill(solver.net, random)
    niter = 8
    train_loss = np.zeros(niter)
    solver.net.blobs["data"].data[...] = random.rand(4, 1, 20, 20)
    solver.net.blobs["target"].data[...] = random.randn(4, 3)
    for it in range(niter):
        solver.step(1)
        train_loss[it] = solver.net.blobs["loss"].data
    found["train_loss"] = train_loss
    solver.net.save(os.path.join(folder, "trained.caffemodel"))
    found["sizes"] = np.array(
        [[np.prod(v[0].data.shape), np.prod(v[1].data.shape)] for k, v in solver.net.params.items()]
    )


def fine_tune(folder, random, found):
    solver = caffe.get_solver(write_solver(folder, "fine.prototxt", "fine_solver.prototxt"))
    for blob in solver.net.params["score_fine"]:
        blob.data[...] = random.randn(*blob.data.shape) * 0.1
    solver.net.copy_from(os.path.join(folder, "trained.caffemodel"))
    before = {k: v[0].data.copy() for k, v in solver.net.params.items()}
    solver.net.blobs["data"].data[...] = random.rand(4, 1, 20, 20)
    solver.net.blobs["label"].data[...] = [0, 3, 1, 4]
    losses, accuracies = [], []
    for it in range(10):
        solver.net.forward()
        losses.append(float(solver.net.blobs["loss"].data))
        accuracies.append(float(solver.net.blobs["accuracy"].data))
        solver.step(1)
    changed = [k for k, v in solver.net.params.items() if (v[0].data != before[k]).any()]
    assert changed == ["score_fine"], changed
    found["fine_loss"], found["accuracy"] = np.array(losses), np.array(accuracies)
    solver.net.save(os.path.join(folder, "fine.caffemodel"))


def vis_square(data):
    """Filters (n, height, width) as one normalised square picture."""
    data = (data - data.min()) / (data.max() - data.min())
    n = int(np.ceil(np.sqrt(data.shape[0])))
    padding = ((0, n**2 - data.shape[0]), (0, 1), (0, 1))
    data = np.pad(data, padding, mode="constant", constant_values=1)
    data = data.reshape((n, n) + data.shape[1:]).transpose(
        (0, 2, 1, 3) + tuple(range(4, data.ndim + 1))
    )
    return data.reshape((n * data.shape[1], n * data.shape[3]) + data.shape[4:])


def surgery(folder, random, found):
    net = caffe.Net(
        os.path.join(folder, "deploy.prototxt"), os.path.join(folder, "fine.caffemodel"), caffe.TEST
    )
    found["filters"] = vis_square(net.params["conv1"][0].data[:, 0])
    params = ["fc1", "score_fine"]
    fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}
    full_conv = caffe.Net(
        os.path.join(folder, "full_conv.prototxt"),
        os.path.join(folder, "fine.caffemodel"),
        caffe.TEST,
    )
    params_full_conv = ["fc1-conv", "score_fine-conv"]
    conv_params = {
        pr: (full_conv.params[pr][0].data, full_conv.params[pr][1].data) for pr in params_full_conv
    }
    for pr, pr_conv in zip(params, params_full_conv):
        conv_params[pr_conv][0].flat = fc_params[pr][0].flat  # flat unrolls the arrays
        conv_params[pr_conv][1][...] = fc_params[pr][1]
    full_conv.save(os.path.join(folder, "full_conv.caffemodel"))
    image = random.rand(32, 36, 1).astype(np.float32)
    transformer = caffe.io.Transformer({"data": full_conv.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.array([0.5]))
    transformer.set_raw_scale("data", 2.0)
    out = full_conv.forward_all(data=np.asarray([transformer.preprocess("data", image)]))
    found["prob_map"] = out["prob"][0]
    found["best"] = out["prob"][0].argmax(axis=0)
    full_conv.blobs["data"].reshape(2, 1, 24, 20)
    full_conv.reshape()
    full_conv.blobs["data"].data[...] = random.rand(2, 1, 24, 20)
    found["reshaped"] = full_conv.forward()["prob"].copy()


def dream(folder, random, found):
    net = caffe.Classifier(
        os.path.join(folder, "deploy.prototxt"),
        os.path.join(folder, "fine.caffemodel"),
        image_dims=(24, 24),
    )
    found["scores"] = net.predict([random.rand(24, 24, 1).astype(np.float32)], oversample=True)
    src = net.blobs["data"]
    src.reshape(1, 1, 20, 20)
    src.data[0] = random.rand(1, 20, 20)
    for i in range(5):
        net.forward(end="conv2")
        net.blobs["conv2"].diff[:] = net.blobs["conv2"].data
        net.backward(start="conv2")
        g = src.diff[0]
        src.data[:] += 0.1 / np.abs(g).mean() * g
    found["dream"] = src.data[0].copy()
    out = net.forward(blobs=["fc1"])
    diff = np.zeros_like(out["prob"])
    diff[0, 2] = 1
    found["fc1"] = out["fc1"].copy()
    found["saliency"] = net.backward(prob=diff)["data"].copy()


def main(folder):
    caffe.set_mode_cpu()
    found, random = {}, np.random.RandomState(0)
    write_nets(folder)
    for part in (train, fine_tune, surgery, dream):
        part(folder, random, found)
    np.savez_compressed(os.path.join(folder, "found.npz"), **found)
    print("Done: %s" % ", ".join(sorted(found)))


if __name__ == "__main__":
    main(sys.argv[1])
