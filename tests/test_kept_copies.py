"""Copies of weights in other precisions and shapes are never used when they are out of date.

Random sequences of steps, precisions, arrays held and written, snapshots and shared nets, beside
the same sequence in PyTorch, by autograd, which keeps no copies and no arrays.
"""

from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import array_cases
import caffe
from caffe import device, kernels
from caffe.kernels import native
from caffe.training import parallel

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" param { name: "shared" }
        convolution_param { num_output: 4 kernel_size: 2 bias_term: false
                            weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "flat" type: "InnerProduct" bottom: "x" top: "flat"
        param { name: "shared" share_mode: PERMISSIVE }
        inner_product_param { num_output: 1 bias_term: false } }
layer { name: "top" type: "InnerProduct" bottom: "conv" top: "top"
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "Reduction" bottom: "top" top: "loss" loss_weight: 0.5
        reduction_param { operation: SUMSQ } }
layer { name: "flat_loss" type: "Reduction" bottom: "flat" top: "flat_loss" loss_weight: 0.25
        reduction_param { operation: SUMSQ } }
"""
SOLVER = """
net: "%s/net.prototxt" type: "%s" base_lr: 0.004 momentum: %s lr_policy: "fixed" max_iter: 99
weight_decay: 0.01 iter_size: %d random_seed: 5 snapshot_prefix: "%s/s" test_iter: 1
test_interval: 99 test_initialization: false
"""
RULES = {  # type: momentum, iter_size
    "SGD": (0.9, 1),
    "Nesterov": (0.5, 2),
    "AdaGrad": (0, 1),
    "Adam": (0.9, 1),
}
MASTER = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


class Reference:
    """The net and its solver by autograd. The state: a list of tensors, and lists of history."""

    def __init__(self, solver):
        self.rule, self.param = solver.type, solver.param
        self.weights = [blob.tensor.clone().contiguous() for blob in blobs_of(solver.net)]
        self.history = [[torch.zeros_like(w) for w in self.weights] for _ in solver.history]
        self.iteration = 0

    def set_precision(self, name):
        self.weights = [w.to(MASTER[name]) for w in self.weights]
        self.history = [[h.to(MASTER[name]) for h in kept] for kept in self.history]

    def loss(self, x, weights=None):
        shared, top, bias = weights or self.weights
        x, shared, top, bias = (t.to(device.dtype()) for t in (x, shared, top, bias))
        conv = F.conv2d(x, shared)
        scores = F.linear(conv.flatten(1), top, bias)
        flat = F.linear(x.flatten(1), shared.reshape(1, -1))
        return 0.5 * (scores**2).sum() + 0.25 * (flat**2).sum()

    def step(self, x):
        weights = [w.clone().requires_grad_() for w in self.weights]
        loss = self.loss(x, weights)
        for index, g in enumerate(torch.autograd.grad(loss, weights)):
            w = self.weights[index]
            self.weights[index] = w - self.update(g.to(w.dtype) + 0.01 * w, index)
        self.iteration += 1
        return float(loss.detach())

    def update(self, g, index):
        """Of Caffe's four formulas."""
        rate, momentum, (h, *second) = 0.004, self.param.momentum, [k[index] for k in self.history]
        if self.rule == "AdaGrad":
            return rate * g / (h.addcmul_(g, g).sqrt() + self.param.delta)
        if self.rule == "Adam":
            t, beta2 = self.iteration + 1, self.param.momentum2
            h.mul_(momentum).add_(g, alpha=1 - momentum)
            second[0].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            rate *= (1 - beta2**t) ** 0.5 / (1 - momentum**t)
            return rate * h / (second[0].sqrt() + self.param.delta)
        before = h.clone()
        h.mul_(momentum).add_(g, alpha=rate)
        return (1 + momentum) * h - momentum * before if self.rule == "Nesterov" else h.clone()

    def state(self):
        """What a snapshot keeps, in single precision, as its files do."""
        return (
            [w.to(torch.float32, copy=True) for w in self.weights],
            [[h.to(torch.float32, copy=True) for h in kept] for kept in self.history],
            self.iteration,
        )

    def restore(self, state):
        weights, history, self.iteration = state
        self.copy_from(weights)
        self.history = [
            [h.to(w.dtype, copy=True) for h, w in zip(kept, self.weights, strict=True)]
            for kept in history
        ]

    def copy_from(self, weights):
        self.weights = [w.to(self.weights[0].dtype, copy=True) for w in weights]


def blobs_of(net):
    return [net.params["conv"][0], *net.params["top"]]


class Sequence:
    """Both sides, and what happens to them; every method is one thing that a user can do."""

    def __init__(self, folder, rule, seed):
        (folder / "net.prototxt").write_text(NET)
        settings = SOLVER % (folder, rule, *RULES[rule], folder)
        (folder / "solver.prototxt").write_text(settings)
        self.random = np.random.RandomState(seed)
        self.solver = caffe.get_solver(str(folder / "solver.prototxt"))
        self.net, self.held, self.saved = self.solver.net, [], {}
        self.other = self.solver.test_nets[0]
        self.reference = Reference(self.solver)
        self.tolerance = 1e-5

    def any_param(self):
        """A parameter's number, and a blob that shows it, maybe in another shape."""
        index = self.random.randint(3)
        net = self.random.choice([self.net, self.other])
        self.solver.share_weights(self.other)
        if index == 0 and self.random.rand() < 0.5:
            return index, net.params["flat"][0]
        return index, blobs_of(net)[index]

    def step(self):
        x = torch.from_numpy(self.random.randn(2, 3, 4, 4))
        self.net.blobs["x"].data[...] = x.numpy()
        self.net.clear_param_diffs()
        found = 0
        for _ in range(self.solver.param.iter_size):  # over one and the same batch
            found += self.net._forward(0, len(self.net.layers) - 1) / self.solver.param.iter_size
            self.net._backward(len(self.net.layers) - 1, 0)
        self.solver.apply_update()
        self.compare(found, self.reference.step(x))

    def test(self):
        x = torch.from_numpy(self.random.randn(2, 3, 4, 4))
        self.solver.share_weights(self.other)
        self.other.blobs["x"].data[...] = x.numpy()
        found = self.other._forward(0, len(self.other.layers) - 1)
        self.compare(found, float(self.reference.loss(x)))

    def set_precision(self):
        name = self.random.choice(list(MASTER))
        caffe.set_precision(name)
        self.reference.set_precision(name)
        if name == "bf16":
            self.tolerance = 0.03  # from now on: an update in bf16 stays in the weights

    def hold(self):
        index, blob = self.any_param()
        self.held.append((index, blob.data))

    def drop(self):
        if self.held:
            self.held.pop(self.random.randint(len(self.held)))

    def write(self):
        """Into one element of an array, which may have been held for long."""
        if not self.held:
            self.hold()
        index, array = self.held[self.random.randint(len(self.held))]
        at, value = self.random.randint(array.size), float(np.float32(self.random.randn() / 2))
        array.reshape(-1)[at] = value
        self.reference.weights[index].view(-1)[at] = value

    def read(self):
        for index, array in self.held:
            expected = self.reference.weights[index].reshape(array.shape)
            np.testing.assert_allclose(array, expected, rtol=self.tolerance, atol=self.tolerance)

    def set_tensor(self):
        index, blob = self.any_param()
        dtype = [torch.float32, torch.float64][self.random.randint(2)]
        values = torch.from_numpy(self.random.randn(*blob.shape) / 3).to(dtype)
        blob.tensor = values
        weight = self.reference.weights[index]
        self.reference.weights[index] = values.reshape(weight.shape).to(weight.dtype, copy=True)

    def scale_tensor(self):
        index, blob = self.any_param()
        blob.tensor.mul_(0.75)
        blob.show("data")
        self.reference.weights[index] *= 0.75

    def snapshot(self):
        self.saved[self.solver.snapshot()] = self.reference.state()

    def restore(self):
        if self.saved:
            path = self.random.choice(list(self.saved))
            self.solver.restore(path)
            self.reference.restore(self.saved[path])

    def copy_from(self):
        if self.saved:
            path = self.random.choice(list(self.saved))
            self.net.copy_from(path.replace("solverstate", "caffemodel"))
            self.reference.copy_from(self.saved[path][0])

    def compare(self, found, expected):
        assert found == pytest.approx(expected, rel=self.tolerance, abs=self.tolerance)
        self.read()


ACTIONS = [name for name, what in vars(Sequence).items() if not name.startswith("__")]
ACTIONS = [name for name in ACTIONS if name not in ("any_param", "compare")] + 4 * ["step"]


@pytest.fixture(params=["kernels", "PyTorch"])
def updates_by(request):
    """Weights change by the engine's own kernels, of which PyTorch knows nothing, or by PyTorch."""
    if request.param == "kernels":
        yield
    else:
        with mock.patch.object(kernels, "updating", lambda *args: None):
            yield


@pytest.fixture(autouse=True)
def single_precision():
    yield
    caffe.set_precision("fp32")


@pytest.mark.usefixtures("updates_by")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.heavy) for seed in range(4, 60))]
)
def test_any_sequence_is_that_of_pytorch(tmp_path, rule, seed):
    sequence = Sequence(tmp_path, rule, seed)
    for number in range(60):
        action = sequence.random.choice(ACTIONS)
        print(number, action)  # shown when it fails
        getattr(sequence, action)()
    sequence.step()
    sequence.test()


class Sent:
    """A message of torch.distributed that has come: it counts no version of the tensor up."""

    def __init__(self, tensor, **options):
        tensor.numpy()[...] = 0.25

    def wait(self, *limit):
        return True


def test_bf16_uses_the_weights_that_another_process_sends(monkeypatch):
    caffe.set_precision("bf16")
    net = array_cases.plain(array_cases.LEARNING)
    net.blobs["x"].data[...] = 1
    net.forward()
    nccl = object.__new__(caffe.NCCL)
    nccl.net, nccl._signals = net, None
    monkeypatch.setattr(parallel.dist, "broadcast", Sent)
    nccl.bcast()
    net.forward()
    assert (net.blobs["conv"].data == (18 + 1) * 0.25).all()


# ---- a change of precision -----------------------------------------------------------------------

NORMALIZED = """
input: "x" input_shape { dim: 4 dim: 3 dim: 6 dim: 6 } force_backward: true
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "prelu" type: "PReLU" bottom: "y" top: "z" }
layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def passes(built_in, run_in):
    """The loss and all diffs of two passes of a net, run in another precision than it was built."""
    caffe.set_random_seed(4)
    caffe.set_precision(built_in)
    net = array_cases.net(NORMALIZED, caffe.TRAIN)
    caffe.set_precision(run_in)
    found = []
    for number in range(2):
        net.blobs["x"].data[...] = np.random.RandomState(number).randn(4, 3, 6, 6)
        net.clear_param_diffs()
        found.append(net.forward()["loss"].copy())
        net.backward()
        found += [blob.diff.copy() for blobs in net.params.values() for blob in blobs]
        found += [blob.data.copy() for blob in net.params["bn"]]
    return found


@pytest.mark.unlooked  # an array that is held keeps its own precision
@pytest.mark.parametrize("run_in", MASTER)
@pytest.mark.parametrize("built_in", MASTER)
def test_a_net_computes_in_the_precision_in_force(built_in, run_in):
    found, expected = passes(built_in, run_in), passes(run_in, run_in)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.unlooked
def test_arrays_of_parameters_have_the_precision_in_force():
    net = array_cases.net(NORMALIZED)
    weight = net.params["conv"][0]
    assert weight.data.dtype == np.float32
    caffe.set_precision("fp64")
    assert weight.data.dtype == np.float64
    weight.data[...] = third = 1 / 3
    assert (weight.tensor == third).all()


def test_an_array_held_over_a_change_of_precision_stays_live():
    net = array_cases.net(NORMALIZED)
    weight = net.params["conv"][0]
    held = weight.data
    caffe.set_precision("fp64")
    weight.tensor.fill_(0.1)
    weight.show("data")
    assert (held == np.float32(0.1)).all()
    assert (weight.tensor == 0.1).all()  # not rounded for the array's sake
    held[0] = 0.25
    assert (weight.tensor[0] == 0.25).all()


@pytest.mark.parametrize("rule", RULES)
def test_momentum_goes_on_in_the_precision_in_force(tmp_path, rule):
    sequence = Sequence(tmp_path, rule, 0)
    history = [kept for kept_list in sequence.solver.history for kept in kept_list]
    sequence.step()
    caffe.set_precision("fp64")
    sequence.reference.set_precision("fp64")
    for _ in range(3):
        sequence.step()
    after = [kept for kept_list in sequence.solver.history for kept in kept_list]
    assert all(one is other for one, other in zip(history, after, strict=True))
    assert {kept.dtype for kept in after} == {torch.float64}


@pytest.mark.unlooked
def test_the_kernel_brings_the_kept_copy_up_to_date(tmp_path):
    """So that the next pass need not round all weights again."""
    if native.library() is None:
        pytest.skip("needs the compiled kernels")
    caffe.set_precision("bf16")
    sequence = Sequence(tmp_path, "SGD", 0)
    sequence.tolerance = 0.03
    blob = sequence.net.params["top"][0]
    sequence.step()
    copy = blob.kept_copy()
    sequence.step()
    assert copy is not None and blob.kept_copy() is copy
    assert (copy == blob.tensor.bfloat16()).all()
