"""Solver settings that both engines train with: the same net, weights and batches.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where
tests/oracle/record_solvers.py records what it computes.
"""

import os
import zlib

import numpy as np

import caffe

STEPS = 10

# Every kind of parameter: multipliers, none, shared by two layers, frozen; two losses.
NET = """
name: "solver_cases"
layer { name: "data" type: "Python" top: "data" top: "label"
        python_param { module: "solver_cases" layer: "Batches" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "tanh" type: "TanH" bottom: "conv" top: "conv" }
layer { name: "frozen" type: "InnerProduct" bottom: "conv" top: "frozen"
        param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
        inner_product_param { num_output: 6 } }
layer { name: "left" type: "InnerProduct" bottom: "frozen" top: "left"
        param { name: "both" lr_mult: 0.5 decay_mult: 3 } inner_product_param
        { num_output: 6 bias_term: false } }
layer { name: "tanh2" type: "TanH" bottom: "left" top: "left" }
layer { name: "right" type: "InnerProduct" bottom: "left" top: "right"
        param { name: "both" } inner_product_param { num_output: 6 bias_term: false } }
layer { name: "fc" type: "InnerProduct" bottom: "right" top: "fc"
        inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "energy" type: "EuclideanLoss" bottom: "left" bottom: "right" top: "energy"
        loss_weight: 0.05 }
"""

TYPES = {
    "SGD": "base_lr: 0.1 momentum: 0.9",
    "Nesterov": "base_lr: 0.1 momentum: 0.9",
    "AdaGrad": "base_lr: 0.05 delta: 1e-5",
    "RMSProp": "base_lr: 0.01 rms_decay: 0.9 delta: 1e-5",
    "AdaDelta": "base_lr: 1 momentum: 0.95 delta: 1e-4",
    "Adam": "base_lr: 0.01 momentum: 0.9 momentum2: 0.99 delta: 1e-6",
}
POLICIES = {
    "fixed": "",
    "step": "gamma: 0.5 stepsize: 3",
    "exp": "gamma: 0.9",
    "inv": "gamma: 0.1 power: 0.75",
    "multistep": "gamma: 0.5 stepvalue: 2 stepvalue: 2 stepvalue: 7",
    "poly": "power: 0.9",
    "sigmoid": "gamma: 0.5 stepsize: 5",
}
EXTRAS = {
    "l2": "weight_decay: 0.01",
    "l1": 'weight_decay: 0.01 regularization_type: "L1"',
    "clip": "clip_gradients: 0.2",
    "iter_size": "iter_size: 3",
    "all": 'weight_decay: 0.01 regularization_type: "L1" clip_gradients: 0.3 iter_size: 2',
}
# name -> the solver's settings
CASES = {
    "%s_%s" % (kind, policy): '%s lr_policy: "%s" %s' % (settings, policy, more)
    for kind, settings in TYPES.items()
    for policy, more in POLICIES.items()
}
CASES.update(
    {
        "%s_%s" % (kind, extra): '%s lr_policy: "fixed" %s' % (settings, more)
        for kind, settings in TYPES.items()
        for extra, more in EXTRAS.items()
    }
)
CASES = {name: 'type: "%s" %s' % (name.split("_")[0], text) for name, text in CASES.items()}

# These take snapshots halfway.
SNAPSHOTS = {
    "%s_%s" % (kind, form): '%s lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 5 '
    'stepvalue: 5 weight_decay: 0.01 type: "%s" snapshot_format: %s' % (settings, kind, form)
    for kind, settings in TYPES.items()
    for form in ("BINARYPROTO", "HDF5")
}


class Batches(caffe.Layer):
    """A Python layer: seeded batches, another one at every forward pass."""

    def setup(self, bottom, top):
        self.count = 0

    def reshape(self, bottom, top):
        top[0].reshape(4, 2, 5, 5)
        top[1].reshape(4)

    def forward(self, bottom, top):
        random = np.random.RandomState(self.count)
        top[0].data[...] = random.randn(4, 2, 5, 5)
        top[1].data[...] = random.randint(0, 5, 4)
        self.count += 1

    def backward(self, top, propagate_down, bottom):
        pass


def make_solver(settings, folder, prefix="snapshot"):
    """A solver of the net above with seeded weights."""
    net, path = os.path.join(folder, "net.prototxt"), os.path.join(folder, "solver.prototxt")
    with open(net, "w") as file:
        file.write(NET)
    with open(path, "w") as file:
        file.write(
            'net: "%s" snapshot_prefix: "%s" max_iter: %d %s'
            % (net, os.path.join(folder, prefix), STEPS, settings)
        )
    solver = caffe.get_solver(path)
    for name, blobs in solver.net.params.items():
        random = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
        for blob in blobs:
            shape = tuple(blob.shape)
            blob.data[...] = random.randn(*shape) / np.sqrt(max(np.prod(shape[1:]), 4))
    return solver


def train(solver, steps):
    """The losses of `steps` iterations."""
    losses = []
    for _ in range(steps):
        solver.step(1)
        losses.append([float(solver.net.blobs[name].data) for name in ("loss", "energy")])
    return np.array(losses, np.float32)


def parameters(net):
    """{"layer[index]": array} of all parameters."""
    return {
        "%s[%d]" % (name, index): np.array(blob.data)
        for name, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    }


def run(name, folder):
    """{"loss": losses, "layer[index]": weights} after STEPS steps of a case."""
    solver = make_solver(CASES[name], folder)
    losses = train(solver, STEPS)
    return dict(parameters(solver.net), loss=losses)


def save_half(name, folder):
    """Train half of the steps and write the snapshot NAME_iter_5 into `folder`."""
    solver = make_solver(SNAPSHOTS[name], folder, name)
    train(solver, STEPS // 2)
    solver.snapshot()


def go_on(name, folder):
    """Continue from the snapshot in `folder`: the losses of the rest, then the parameters."""
    solver = make_solver(SNAPSHOTS[name], folder, name)
    ending = ".h5" if name.endswith("HDF5") else ""
    solver.restore(os.path.join(folder, "%s_iter_%d.solverstate%s" % (name, STEPS // 2, ending)))
    assert solver.iter == STEPS // 2
    solver.net.layers[0].count = STEPS // 2
    losses = train(solver, STEPS - STEPS // 2)
    return dict(parameters(solver.net), loss=losses)
