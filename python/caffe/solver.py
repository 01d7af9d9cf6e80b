"""Solvers: forward, backward, update, test, snapshot, restore (Caffe's Solver and SGDSolver)."""

import os

import numpy as np
import torch

from . import device
from .errors import CaffeError, DataError, WeightsError, nearest
from .lr_policy import POLICIES, current_step, learning_rate
from .net import Net
from .proto import caffe_pb2, weights
from .proto.text import read_net, read_solver
from .solver_log import SolverLog
from .updates import HISTORY, RULES


class Solver:
    """Trains the net that a solver.prototxt (a path or a SolverParameter) names.

    `net`, `test_nets` and `iter` are live. `step(n)` runs n iterations; a driver of its own calls
    `net.forward()`, `net.backward()` or ranges of it, and `apply_update()`.
    """

    rule = None  # set by the subclasses; None: as the file says

    def __init__(self, solver_file):
        self.param = param = read_solver(solver_file)
        self.type = self.rule or param.type
        self._folder = os.path.dirname(solver_file) if isinstance(solver_file, str) else ""
        _check(param, self.type)
        if param.random_seed >= 0:
            device.set_random_seed(param.random_seed)
        self.iter = 0
        self.net = self._train_net()
        self.test_nets = self._test_nets()
        self._history = None
        self._callbacks = []
        self._log = SolverLog(param)

    # ---- nets --------------------------------------------------------------------------------

    def _train_net(self):
        param = self.param
        given = [getattr(param, name) for name in
                 ("train_net_param", "train_net", "net_param", "net") if param.HasField(name)]
        if len(given) != 1:
            raise CaffeError(f"solver: expected one of net, net_param, train_net, train_net_param; "
                             f"found {len(given)}")
        return self._make_net(given[0], caffe_pb2.TRAIN, param.train_state)

    def _test_nets(self):
        param = self.param
        sources = [*param.test_net_param, *param.test_net]
        shared = (param.net_param if param.HasField("net_param") else
                  param.net if param.HasField("net") else None)
        if shared is not None:
            sources += [shared] * (len(param.test_iter) - len(sources))
        if len(sources) != len(param.test_iter):
            raise CaffeError(f"solver: test_iter has {len(param.test_iter)} values for "
                             f"{len(sources)} test nets; give one for each")
        if sources and param.test_interval <= 0:
            raise CaffeError("solver: test nets need a positive test_interval")
        if len(param.test_state) not in (0, len(sources)):
            raise CaffeError(f"solver: test_state is given {len(param.test_state)} times for "
                             f"{len(sources)} test nets; give none or one for each")
        states = param.test_state or [caffe_pb2.NetState()] * len(sources)
        return [self._make_net(source, caffe_pb2.TEST, state)
                for source, state in zip(sources, states, strict=True)]

    def _make_net(self, source, phase, state):
        net = Net(read_net(self._find(source)), phase, state.level, list(state.stage))
        for path in self.param.weights:
            net.copy_from(self._find(path))
        return net

    def _find(self, source):
        """A file named in the solver: from the working directory, else beside the solver file."""
        if isinstance(source, str) and not os.path.exists(source):
            beside = os.path.join(self._folder, source)
            return beside if os.path.exists(beside) else source
        return source

    # ---- training ----------------------------------------------------------------------------

    def solve(self, resume_file=None):
        """Train up to max_iter, with the tests and snapshots that the settings ask for."""
        if resume_file:
            self.restore(resume_file)
        self.step(self.param.max_iter - self.iter)
        if self.param.snapshot_after_train and not self._snapshot_due():
            self.snapshot()
        if self.test_nets and self.iter % self.param.test_interval == 0:
            self.test_all()

    def step(self, iterations):
        """Run `iterations` iterations of forward, backward and update."""
        for _ in range(iterations):
            if self._test_due():
                self.test_all()
            for on_start, _ in self._callbacks:
                on_start()
            self._log.iteration(self, self._forward_backward())
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            self.iter += 1
            if self._snapshot_due():
                self.snapshot()

    def _forward_backward(self):
        self.net.clear_param_diffs()
        last, loss = len(self.net.nodes) - 1, 0.0
        for _ in range(self.param.iter_size):
            loss += self.net._forward(0, last)
            self.net._backward(last, 0)
        return loss / self.param.iter_size

    def _test_due(self):
        param = self.param
        return (self.test_nets and param.test_interval and self.iter % param.test_interval == 0
                and (self.iter > 0 or param.test_initialization))

    def _snapshot_due(self):
        return self.param.snapshot and self.iter % self.param.snapshot == 0

    def learning_rate(self, iteration=None):
        """The learning rate of an iteration, by default the present one."""
        return learning_rate(self.param, self.iter if iteration is None else iteration)

    def apply_update(self):
        """Clip, average over iter_size, regularise, apply the update rule to every parameter.

        Afterwards a parameter's diff holds the update that was subtracted from it.
        """
        param, learnable = self.param, self.net.learnable
        gradients = [p.blob.diff_tensor for p in learnable]
        if param.clip_gradients >= 0:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            factor = (param.clip_gradients / norm).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        if param.iter_size > 1:
            torch._foreach_mul_(gradients, 1 / param.iter_size)
        rate = self.learning_rate()
        for (lr_mult, decay_mult), indices in self._groups().items():
            data = [learnable[i].blob.tensor for i in indices]
            updates = [gradients[i] for i in indices]
            self._regularize(updates, data, param.weight_decay * decay_mult)
            history = [[kept[i] for i in indices] for kept in self.history]
            RULES[self.type](updates, history, rate * lr_mult, param, self.iter)
            torch._foreach_sub_(data, updates)

    def _groups(self):
        """Indices of the parameters of each (lr_mult, decay_mult)."""
        groups = {}
        for index, p in enumerate(self.net.learnable):
            groups.setdefault((p.lr_mult, p.decay_mult), []).append(index)
        return groups

    def _regularize(self, updates, data, decay):
        if not decay:
            return
        if self.param.regularization_type == "L2":
            torch._foreach_add_(updates, data, alpha=decay)
        else:
            torch._foreach_add_(updates, torch._foreach_sign(data), alpha=decay)

    @property
    def history(self):
        """What the update rule remembers: a list or two of tensors, one for each parameter."""
        if self._history is None:
            self._history = [[torch.zeros_like(p.blob.tensor) for p in self.net.learnable]
                             for _ in range(HISTORY[self.type])]
        return self._history

    def add_callback(self, on_start, on_gradients_ready):
        """Call both, without arguments, in every iteration of `step`."""
        self._callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net):
        """Make `net` use the weights of the train net."""
        net.share_with(self.net)

    # ---- testing -----------------------------------------------------------------------------

    def test_all(self):
        """Run every test net; return for each {output name: mean over test_iter batches}."""
        return [self.test(index) for index in range(len(self.test_nets))]

    def test(self, index=0):
        """Run one test net for its test_iter batches and return {output name: mean array}."""
        net, batches = self.test_nets[index], self.param.test_iter[index]
        self._log.testing(self.iter, index)
        self.share_weights(net)
        totals, loss = {}, 0.0
        for _ in range(batches):
            loss += net._forward(0, len(net.nodes) - 1)
            for name in net.outputs:
                totals[name] = totals.get(name, 0) + net.blobs[name].data.astype(np.float64)
        means = {name: total / batches for name, total in totals.items()}
        if self.param.test_compute_loss:
            self._log.test_loss(loss / batches)
        self._log.test_outputs(net, means)
        return means

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self):
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        hdf5 = self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5
        ending = ".h5" if hdf5 else ""
        stem = f"{self.param.snapshot_prefix}_iter_{self.iter}"
        folder = os.path.dirname(stem)
        if folder:
            os.makedirs(folder, exist_ok=True)
        model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
        self._log.line(f"Snapshotting to {'HDF5' if hdf5 else 'binary proto'} file {model}")
        self.net.save(model, self.param.snapshot_diff)
        self._log.line(f"Snapshotting solver state to {'HDF5' if hdf5 else 'binary proto'} "
                       f"file {state}")
        history = [kept.cpu().numpy() for kept_list in self.history for kept in kept_list]
        weights.write_state(state, self.iter, model, current_step(self.param, self.iter), history)
        return state

    def restore(self, path):
        """Continue from a .solverstate or .solverstate.h5: iteration, weights, history."""
        state = weights.read_state(path)
        mine = [kept for kept_list in self.history for kept in kept_list]
        if len(state.history) != len(mine):
            raise WeightsError(
                f"{path}: holds {len(state.history)} history blobs; this {self.type} solver has "
                f"{len(mine)}: the state belongs to another net or solver type")
        for kept, array, p in zip(mine, state.history, self.net.learnable * 2, strict=False):
            if kept.numel() != array.size:
                raise WeightsError(f"{path}: the history of {p.name!r} has shape {array.shape}; "
                                   f"this net has {tuple(kept.shape)}")
        if state.learned_net:
            if not os.path.exists(state.learned_net):
                raise DataError(f"{path}: its weights {state.learned_net!r} are missing; put them "
                                "back, or run from the folder where the snapshot was taken")
            self.net.copy_from(state.learned_net)
        for kept, array in zip(mine, state.history, strict=True):
            kept.copy_(torch.from_numpy(np.asarray(array, np.float32).reshape(kept.shape)))
        self.iter = state.iter


def _check(param, rule):
    if rule not in RULES:
        raise CaffeError(f"solver: unknown type {rule!r}; " + nearest(rule, RULES))
    if param.lr_policy not in POLICIES:
        raise CaffeError(f"solver: unknown lr_policy {param.lr_policy!r}; "
                         + nearest(param.lr_policy, POLICIES))
    if param.regularization_type not in ("L1", "L2"):
        raise CaffeError(f"solver: regularization_type must be L1 or L2; "
                         f"found {param.regularization_type!r}")


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    rule = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    rule = "Nesterov"


class AdaGradSolver(Solver):
    """Duchi et al., 2011."""

    rule = "AdaGrad"


class RMSPropSolver(Solver):
    """Tieleman and Hinton, 2012."""

    rule = "RMSProp"


class AdaDeltaSolver(Solver):
    """Zeiler, 2012."""

    rule = "AdaDelta"


class AdamSolver(Solver):
    """Kingma and Ba, 2015."""

    rule = "Adam"


def get_solver(solver_file):
    """The solver that the file's `type` names."""
    kind = read_solver(solver_file).type
    solvers = {cls.rule: cls for cls in Solver.__subclasses__()}
    if kind not in solvers:
        raise CaffeError(f"solver: unknown type {kind!r}; " + nearest(kind, solvers))
    return solvers[kind](solver_file)
