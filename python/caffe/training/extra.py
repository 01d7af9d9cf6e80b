"""What an extra file adds to a solver: rates, label smoothing, early stopping."""

import copy
import math
import os
from collections import deque

from caffe_plain import lr_policy
from caffe_plain.errors import CaffeError, nearest
from caffe_plain.extra import POLICIES
from caffe_plain.glog import say

from ..files.text import read_text
from ..proto import extra_pb2
from . import fork_rates


class Extra:
    """The learning rates of a solver, with what its extra file says.

    param: the SolverParameter, which gets the extra lr_policy; extra: the path of an extra file,
    an ExtraParameter or None.
    """

    def __init__(self, param, extra=None):
        self.param, self.options = param, _read(extra)
        _adopt_plateau(param, self.options)
        _check(param, self.options)
        fork_rates.check(param)
        self.policies = fork_rates.POLICIES
        if self.options.lr_policy:
            self.policies += (self.options.lr_policy,)
            param.lr_policy = self.options.lr_policy
        self.drops, self.minimum, self.last_event = 0, math.inf, 0  # of plateau
        self.losses = deque(maxlen=max(param.average_loss, 1))
        self.stopping = Stopping(self.options.early_stopping)

    # ---- learning rates ----------------------------------------------------------------------

    def rate(self, iteration):
        """The learning rate of an iteration."""
        return fork_rates.adapted(self.param, iteration, self._rate)

    def _rate(self, iteration):
        options, base = self.options, self.param.base_lr
        if iteration < options.rampup_interval:
            share = iteration / options.rampup_interval
            return options.rampup_lr + (base - options.rampup_lr) * share
        if self.param.lr_policy == "plateau":
            return max(base * self.param.gamma**self.drops, options.min_lr)
        if self.param.lr_policy == "cosine":
            whole = self.param.max_iter - options.rampup_interval
            share = min((iteration - options.rampup_interval) / whole, 1)
            return options.min_lr + (base - options.min_lr) * (1 + math.cos(math.pi * share)) / 2
        try:
            return lr_policy.learning_rate(self.param, iteration)
        except ValueError as error:  # lr_policy raises builtins only
            raise CaffeError(str(error)) from None

    @property
    def observes_tests(self):
        """Whether the rate, or the end, follows from an output of a test net."""
        by_tests = self.param.lr_policy == "plateau" or self.stopping.patience > 0
        return by_tests and bool(self.options.plateau_output)

    @property
    def observes_losses(self):
        """Whether the rate follows from the training loss."""
        return self.param.lr_policy == "plateau" and not self.options.plateau_output

    def observe(self, iteration, loss):
        """Take in the training loss of an iteration, before its update."""
        if not self.observes_losses:
            return
        self.losses.append(float(loss))  # waits for a GPU: the next rate depends on it
        self._watch(iteration, sum(self.losses) / len(self.losses))

    def observe_test(self, iteration, nets, found):
        """Take in a test before an iteration: for each test net {output name: mean array}."""
        name = self.options.plateau_output
        if not self.observes_tests:
            return
        for net, means in zip(nets, found, strict=True):
            if name in means:
                value = float(means[name].mean())
                value = 1 - value if _is_accuracy(net, name) else value
                self.stopping.observe(iteration, value)
                if self.param.lr_policy == "plateau":
                    self._watch(iteration, value)

    def _watch(self, iteration, value):
        """Drop the rate where `value` has found no new minimum for a whole window."""
        if value < self.minimum:
            self.minimum, self.last_event = value, iteration
        windows = self.options.plateau_winsize
        if self.drops < len(windows) and iteration >= self.last_event + windows[self.drops]:
            self.drops, self.last_event = self.drops + 1, iteration
            say("sgd_solver", f"Plateau Status: Iteration {iteration}, step = {self.drops}")

    # ---- snapshots ---------------------------------------------------------------------------

    def current_step(self, iteration):
        """How often the rate has dropped, as a solver state holds it."""
        if self.param.lr_policy == "plateau":
            return self.drops
        return lr_policy.current_step(self.param, iteration)

    def state(self):
        """What a plateau and early stopping remember."""
        return {
            "minimum": self.minimum,
            "last_event": self.last_event,
            "losses": list(self.losses),
            "stopping": self.stopping.state(),
        }

    def restore(self, iteration, step, state):
        """Continue from a snapshot; without the `state` of one taken here, wait a whole window."""
        self.drops = step
        self.minimum = state.get("minimum", math.inf)
        self.last_event = state.get("last_event", iteration)
        self.losses.clear()
        self.losses.extend(state.get("losses", ()))
        self.stopping.restore(state.get("stopping", {}))

    # ---- nets --------------------------------------------------------------------------------

    def check_output(self, test_nets):
        """Refuse a plateau_output that no test net has, or none tests."""
        name, known = self.options.plateau_output, [out for net in test_nets for out in net.outputs]
        if self.observes_tests and name not in known:
            raise CaffeError(
                f"extra: plateau_output: no output {name!r} of a test net; {nearest(name, known)}"
            )

    def smooth_labels(self, net):
        """Set the label smoothing of the training net's losses."""
        losses = {
            node.name: node.layer for node in net.nodes if node.layer.type == "SoftmaxWithLoss"
        }
        for wanted in self.options.label_smoothing:
            if wanted.layer and wanted.layer not in losses:
                raise CaffeError(
                    f"extra: label_smoothing: no SoftmaxWithLoss {wanted.layer!r} in "
                    f"the training net; {nearest(wanted.layer, losses)}"
                )
            for name, layer in losses.items():
                if wanted.layer in ("", name):
                    layer.label_smoothing = wanted.amount


class Stopping:
    """Counts tests without a new minimum; `reached` after `patience` of them, with 0 never."""

    def __init__(self, patience: int):
        self.patience = patience
        self.restore({})

    @property
    def reached(self) -> bool:
        """Whether the training is to end."""
        return 0 < self.patience <= self.without

    def observe(self, iteration: int, value: float) -> None:
        """Take in a test before an iteration; the same test may come twice where a run goes on."""
        if iteration <= self.tested:
            return
        self.tested = iteration
        self.without = 0 if value < self.minimum else self.without + 1
        self.minimum = min(self.minimum, value)
        if self.reached:
            say("solver", f"Early stopping: {self.without} tests without a new minimum")

    def state(self) -> dict[str, float]:
        """What a snapshot holds."""
        return {"minimum": self.minimum, "without": self.without, "tested": self.tested}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a state; from {}, begin."""
        self.minimum = state.get("minimum", math.inf)
        self.without = state.get("without", 0)
        self.tested = state.get("tested", -1)  # iteration


def _is_accuracy(net, output):
    return any(node.layer.type == "Accuracy" and output in node.top_names for node in net.nodes)


def _read(extra):
    if extra is None:
        return extra_pb2.ExtraParameter()
    if isinstance(extra, extra_pb2.ExtraParameter):
        return copy.deepcopy(extra)
    return read_text(os.fspath(extra), extra_pb2.ExtraParameter())


def _adopt_plateau(param, options):
    """Take the plateau policy of Intel's fork, in the solver's own file, for an extra one."""
    if options.lr_policy or param.lr_policy != "plateau" or not param.plateau_winsize:
        return
    options.lr_policy = "plateau"
    options.plateau_winsize[:] = param.plateau_winsize


def _check(param, options):
    if options.HasField("lr_policy") and options.lr_policy not in POLICIES:
        raise CaffeError(
            f"extra: lr_policy must be plateau or cosine; found "
            f"{options.lr_policy!r}: the others stand in the solver's own file"
        )
    if options.lr_policy == "plateau" and (
        not options.plateau_winsize or min(options.plateau_winsize) < 1 or param.gamma <= 0
    ):
        raise CaffeError(
            "extra: lr_policy plateau needs plateau_winsize, a positive number of "
            f"iterations for each drop, and the solver's gamma above 0; found "
            f"{list(options.plateau_winsize)} and gamma {param.gamma:.6g}"
        )
    if options.lr_policy == "cosine" and param.max_iter <= options.rampup_interval:
        raise CaffeError(
            f"extra: lr_policy cosine needs a max_iter beyond the warm-up of "
            f"{options.rampup_interval} iterations; found {param.max_iter}"
        )
    if options.rampup_interval and (param.rampup_interval or param.warmup_iter):
        raise CaffeError(
            "extra: rampup_interval: the solver's own file has a warm-up too; keep one"
        )
    if options.early_stopping and not options.plateau_output:
        raise CaffeError(
            "extra: early_stopping needs plateau_output, the output of a test net that it observes"
        )
    if not 0 <= options.ema_decay < 1:
        raise CaffeError(
            f"extra: ema_decay must be at least 0 and below 1; found {options.ema_decay:.6g}"
        )
    for name in ("min_lr", "rampup_interval", "rampup_lr", "early_stopping"):
        if getattr(options, name) < 0:
            raise CaffeError(f"extra: {name} must be 0 or more; found {getattr(options, name)}")
    for smoothing in options.label_smoothing:
        if not 0 <= smoothing.amount < 1:
            raise CaffeError(
                "extra: label_smoothing: amount must be at least 0 and below 1; "
                f"found {smoothing.amount:.6g}"
            )
