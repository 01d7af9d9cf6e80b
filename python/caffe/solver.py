"""Solvers: forward, backward, update, test, snapshot, restore (Caffe's Solver and SGDSolver)."""

from contextlib import AbstractContextManager

import torch

from caffe_plain.glog import SolverLog, say, show_log
from caffe_plain.late import Late
from caffe_plain.means import mean_outputs

from . import device
from .arriving import number
from .blob import show
from .catalogue.data.records import skipping_damaged
from .run.debug import log_norms
from .training import nets, state, updates
from .training.average import Average
from .training.check import check, check_evaluation
from .training.extra import Extra
from .training.parallel import mean, said_by_first


class Solver:
    """Trains the net that a solver.prototxt (a path or a SolverParameter) names.

    extra: the path of an extra file or an ExtraParameter: what this project adds (extra.proto).
    `net`, `test_nets`, `iter` and `param` are live. `step(n)` runs n iterations; an external driver
    calls `net.forward()`, `net.backward()` or ranges of it, and `apply_update()`.
    """

    rule = None  # set by the subclasses; None: as the file says

    def __init__(self, solver_file, extra=None):
        self.param = param = nets.read(solver_file)
        self.type = self.rule or param.type
        self.extra = Extra(param, extra)
        check(param, self.type, self.extra.policies)
        if param.random_seed >= 0:
            device.set_random_seed(param.random_seed, device.solver_rank())
        folder = nets.folder_of(solver_file)
        self.iter = 0
        with skipping_damaged(self.extra.options.skip_damaged):
            self.net = nets.train_net(param, folder)
        self.extra.smooth_labels(self.net)
        self.average = Average(self.extra.options.ema_decay, self.net.learnable)
        self.test_nets = nets.test_nets(param, folder)
        check_evaluation(param, self.test_nets)
        self.extra.check_output(self.test_nets)
        self.requested_action = lambda: None  # the caffe command's signals: "stop" or "snapshot"
        self.held: torch.Tensor | None = None  # on a GPU: where it is not 0, updates are left out
        self._stopped = False
        self._history = None
        self._callbacks = []
        self._root = device.solver_rank() == 0  # the process that tests and logs
        self._log = SolverLog(param, quiet=not self._root)
        self._late = Late()

    # ---- training ----------------------------------------------------------------------------

    def solve(self, resume_file=None):
        """Train up to max_iter, with the tests and snapshots that the settings ask for."""
        show_log()
        self._log.solving(self.net.name)
        if resume_file:
            say("solver", f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        self.step(self.param.max_iter - self.iter)
        if self._root and self.param.snapshot_after_train and not self._due(self.param.snapshot):
            self.snapshot()
        if self._stopped:
            say("solver", "Optimization stopped early.")
            return
        if self._log.due(self.iter):
            self._log.last(self.iter, self.net._forward(0, len(self.net.nodes) - 1))
        if self._due(self.param.test_interval):
            self._test_together()
        say("solver", "Optimization Done.")

    def step(self, iterations):
        """Run `iterations` iterations of forward, backward and update."""
        show_log()
        self._log.begin(self.iter)
        self._stopped = False
        stop = self.iter + iterations
        try:
            while self.iter < stop and not self._stopped and not self.is_over:
                if self._test_due():
                    self._test_together()
                    if self._stopped or self.is_over:
                        return
                self._iterate()
        finally:
            self.finish_reports()

    def _iterate(self):
        for on_start, _ in self._callbacks:
            on_start()
        loss = self._forward_backward()
        self.observe_loss(loss)
        self._log.iteration(self, loss)
        for _, on_gradients_ready in self._callbacks:
            on_gradients_ready()
        self.apply_update()
        action = self.requested_action()
        if self._root and (self._due(self.param.snapshot) or action == "snapshot"):
            self.snapshot()
        self._stopped = action == "stop"

    def finish_reports(self) -> None:
        """Log what waits for a GPU; `step` and `snapshot` do, an external driver may."""
        self._late.finish()

    def _forward_backward(self):
        """iter_size forward and backward passes; their mean loss, for float()."""
        net, last, loss = self.net, len(self.net.nodes) - 1, 0.0
        net.clear_param_diffs()
        net.debug_info = self.param.debug_info and self._log.due(self.iter)
        for _ in range(self.param.iter_size):
            loss = loss + net._loss(0, last)
            net._backward(last, 0)
            if net.debug_info:
                log_norms(net)
        return number(loss, self.param.iter_size)

    def _test_due(self):
        return self._due(self.param.test_interval) and (
            self.iter > 0 or self.param.test_initialization
        )

    def _test_together(self):
        """Rank 0 tests; before each of its batches all ranks ask for requests, as it does."""
        if self._root:
            found = self.test_all()
        else:
            found = []
            all(self._goes_on() for _ in range(sum(self.param.test_iter)))
        if self._stopped or not self.extra.observes_tests:
            return
        self.observe_test(said_by_first(found) if device.solver_count() > 1 else found)

    def _due(self, interval):
        return interval > 0 and self.iter % interval == 0

    @property
    def lr(self):
        """The current learning rate."""
        return self.learning_rate()

    def learning_rate(self, iteration=None):
        """The learning rate of an iteration, by default the current one."""
        return self.extra.rate(self.iter if iteration is None else iteration)

    def observe_loss(self, loss):
        """Tell the plateau policy this iteration's loss, for float(); an external driver must.

        Of several processes each must: they observe the mean, so that their rates stay the same.
        """
        if self.extra.observes_losses:
            together = device.solver_count() > 1
            self.extra.observe(self.iter, mean([float(loss)])[0] if together else loss)

    def observe_test(self, found):
        """Tell plateau and early stopping what `test_all` has returned; an external driver must."""
        self.extra.observe_test(self.iter, self.test_nets, found)

    @property
    def is_over(self) -> bool:
        """Whether early stopping has ended the training; `step` then does nothing more."""
        return self.extra.stopping.reached

    def apply_update(self) -> None:
        """One step of every parameter, with the gradient in its diff; count the iteration."""
        self.update(self.net.learnable, self.history)
        self.count_iteration()

    def count_iteration(self) -> None:
        """Count an iteration after its updates; a driver that calls `update` must."""
        self.iter += 1
        if self.average.decay:
            self.average.update(self.iter, self.held)

    def update(self, learnable: list, history: list, factor: float = 1.0) -> None:
        """Clip, average over iter_size, regularise, update; the iteration is not counted.

        For a driver that takes several steps in one iteration: `learnable` are the net's records to
        update, `history` is the state of the update rule (as `new_history` makes it), `factor`
        multiplies the learning rate. Afterwards a parameter's diff holds what was subtracted from
        it, unless `net.keep_diffs` is False.
        """
        param, rate = self.param, self.learning_rate() * factor
        self._clip(learnable)
        for (lr_mult, decay_mult), indices in _groups(learnable).items():
            if not lr_mult and not self.net.keep_diffs and self.type in updates.STILL:
                continue  # statistics and frozen layers
            blobs = [learnable[i].blob for i in indices]
            remembered = [[kept[i] for i in indices] for kept in history]
            self._step(blobs, remembered, rate * lr_mult, param.weight_decay * decay_mult)

    def _step(self, blobs, history, rate, decay):
        """Update parameters of one learning rate and one decay."""
        data, gradients = [b.tensor for b in blobs], [b.diff_tensor for b in blobs]
        updates.follow(history, data)
        if updates.try_fused_step(
            self.type,
            blobs,
            data,
            gradients,
            history,
            rate,
            self.param,
            decay,
            self.net.keep_diffs,
            self.held,
        ):
            return
        if self.held is not None and float(self.held):  # waits for the GPU
            return
        if self.param.iter_size > 1:
            torch._foreach_mul_(gradients, 1 / self.param.iter_size)
        self._regularize(gradients, data, decay)
        updates.RULES[self.type](gradients, history, rate, self.param, self.iter)
        torch._foreach_sub_(data, gradients)
        show(blobs, "data", "diff")

    def _clip(self, learnable):
        """Scale all gradients so that their common norm is at most clip_gradients."""
        limit = self.param.clip_gradients
        if limit < 0 or not learnable:
            return
        gradients = [p.blob.diff_tensor for p in learnable]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        factor = (limit / norm).clamp(max=1).nan_to_num()
        torch._foreach_mul_(gradients, factor)
        show((p.blob for p in learnable), "diff")
        if self._root:
            self._late.add([number(norm), number(factor)], self._say_clipped)

    def _say_clipped(self, norm, factor):
        limit = self.param.clip_gradients
        if norm > limit:
            say(
                "sgd_solver",
                f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > "
                f"{limit:.6g}) by scale factor {factor:.6g}",
            )

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
            self._history = self.new_history(self.net.learnable)
        return self._history

    def new_history(self, learnable):
        """A history of zeros for some of the net's learnable records."""
        return [
            [torch.zeros_like(p.blob.tensor) for p in learnable]
            for _ in range(updates.HISTORY[self.type])
        ]

    def add_callback(self, on_start, on_gradients_ready=None):
        """Call both, without arguments, in every iteration of `step`; or an NCCL's own two."""
        if on_gradients_ready is None:
            on_start, on_gradients_ready = on_start.on_start, on_start.on_gradients_ready
        self._callbacks.append((on_start or _nothing, on_gradients_ready or _nothing))

    def share_weights(self, net):
        """Make `net` use the weights of the train net."""
        net.share_with(self.net)

    # ---- testing -----------------------------------------------------------------------------

    def test_all(self):
        """Run every test net; return for each {output name: mean over test_iter batches}."""
        means = []
        for index in range(len(self.test_nets)):
            if not self._stopped:
                means.append(self.test(index))
        return means

    def test(self, index=0):
        """Run one test net for its test_iter batches and return {output name: mean array}."""
        net, batches = self.test_nets[index], self.param.test_iter[index]
        self._log.testing(self.iter, index)
        self.share_weights(net)
        with self.averaged():
            tested = mean_outputs(
                net,
                batches,
                self._goes_on,
                ap_version=self.param.ap_version,
                each_class=self._log.class_result,
            )
        if tested is None:
            say("solver", "Test interrupted.")
            return {}
        loss, means = tested
        if self.param.test_compute_loss and batches:
            self._log.test_loss(loss)
        self._log.test_outputs(net, means)
        return means

    def _goes_on(self):
        """Answer requests during a test, with a snapshot or the end; False to end it."""
        while not self._stopped and (action := self.requested_action()):
            if action == "stop":
                self._stopped = True
            elif self._root:
                self.snapshot()
        return not self._stopped

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the train net, and what shares its weights, has their average, if any."""
        return self.average.in_net()

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self):
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        self.finish_reports()
        return state.snapshot(self)

    def restore(self, path):
        """Continue from a .solverstate or .solverstate.h5: iteration, weights, history."""
        state.restore(self, path)


def _groups(learnable):
    """Indices of the records of each (lr_mult, decay_mult)."""
    groups = {}
    for index, p in enumerate(learnable):
        groups.setdefault((p.lr_mult, p.decay_mult), []).append(index)
    return groups


def _nothing():
    """The callback of scripts that give none ('')."""


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


def get_solver(solver_file, extra=None) -> Solver:
    """The solver that the file's `type` names; CaffeError for a type that does not exist."""
    kind = nets.read(solver_file).type
    named = (cls for cls in Solver.__subclasses__() if cls.rule == kind)
    return next(named, Solver)(solver_file, extra)  # Solver itself refuses an unknown type
