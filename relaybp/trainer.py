"""A training run: steps up to max_iter, with progress, tests, snapshots and signals."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from caffe_plain.errors import LostProcessError
from caffe_plain.late import Late
from caffe_plain.signals import CAFFE_EFFECTS, Signals

from .report import NoReport, Report, clock

if TYPE_CHECKING:
    from .relay_solver import RelaySolver


class Trainer:
    """Trains up to max_iter: `relay` is what `attach` returned, `report` what the user sees.

    SIGINT takes a snapshot and stops, SIGHUP takes a snapshot, as the caffe command does; what
    clusters send to end a job stops too. A training that was stopped has a `status` other than 0.
    Of several processes, the first tests and saves; a signal to any of them is answered by all in
    the same iteration.
    """

    def __init__(self, relay: RelaySolver, report: Report | NoReport):
        self.relay, self.solver, self.report = relay, relay.solver, report
        self.param, net = self.solver.param, relay.net
        self.group = relay.schedule.group
        self.losses = [name for name, weight in net.blob_loss_weights.items() if weight]
        self.images = next(iter(net.blobs.values())).shape[0] * self.param.iter_size
        self.signals = Signals(CAFFE_EFFECTS, patient=self.group.size > 1)
        self.late = Late()  # reports of iterations
        self.stopped = False
        self.last_test: dict[str, float] | None = None
        self.last_state: str | None = None

    def train(self) -> dict[str, float] | None:
        """Run to max_iter, or to an interrupt; return the last test's {output name: mean}.

        Raises LostProcessError, after a snapshot of the last update, where another of the
        processes that train together has ended.
        """
        self.relay.log.solving(self.relay.engine.net_param(self.solver).name)
        with self.signals:
            try:
                self._iterate_all()
                self._finish()
            except LostProcessError:
                self.snapshot()
                raise
            finally:
                self._finish_reports()
        return self.last_test

    @property
    def status(self) -> int:
        """With what the process is to end: 0, or 128 + the signal that stopped the training."""
        return self.signals.status or (128 + signal.SIGINT if self.stopped else 0)

    def _iterate_all(self):
        self.report.start(self.relay.iter)
        while self.relay.iter < self.param.max_iter and self._goes_on():
            if self.relay.test_due:
                self.test()
                if self.stopped:
                    break
            self.iterate()
            if self.relay.snapshot_due:
                self.snapshot()

    def _goes_on(self):
        """Serve what signals ask for; whether to go on. All processes ask equally often."""
        while not self.stopped and (action := self.group.requested(self.signals)):
            self._finish_reports()
            if action == "stop":
                self.report.say("Interrupted at iteration %d" % self.relay.iter)
                self.stopped = True
            else:
                self.snapshot()
        return not self.stopped

    def _finish(self):
        """The snapshot and the test after the last iteration."""
        self._finish_reports()
        if self.stopped or self.param.snapshot_after_train:
            self.snapshot()
        if not self.stopped and self.param.test_iter:
            self.test()

    def iterate(self) -> None:
        """One iteration; it is reported at the latest in the next one."""
        rate = self.solver.learning_rate()
        self.relay.iterate()
        done, blobs = self.relay.iter, self.relay.net.blobs
        self.late.add(
            [self.relay.engine.value(blobs[name]) for name in self.losses],
            lambda *values: self.report.iteration(
                done, self.images, dict(zip(self.losses, values)), rate
            ),
        )

    def _finish_reports(self):
        """Report all iterations that are over."""
        self.late.finish()
        self.solver.finish_reports()

    def test(self) -> None:
        """Test, and report the mean of each output."""
        self._finish_reports()
        if self.relay.root:
            found = self.relay.test_all(self._goes_on)
        else:
            found = []
            all(self._goes_on() for _ in range(sum(self.param.test_iter)))
        if self.stopped:
            return
        self.relay.observe_test(found)
        if not self.relay.root:
            return
        self.last_test = {
            name: float(mean.mean()) for means in found for name, mean in means.items()
        }
        self.report.test(self.relay.iter, self.last_test)
        self.report.say(
            "Test at iteration %d: %s"
            % (
                self.relay.iter,
                ", ".join("{} {:.4f}".format(*item) for item in self.last_test.items()),
            )
        )
        self.report.pause()

    @property
    def images_tested(self) -> int:
        """How many images a test of all test nets looks at."""
        return sum(
            batches * next(iter(net.blobs.values())).shape[0]
            for net, batches in zip(self.solver.test_nets, self.param.test_iter)
        )

    def snapshot(self) -> None:
        """Write the weights and the state, in the first process and once an iteration."""
        self._finish_reports()
        saved = (self.last_state or "").endswith(f"_iter_{self.relay.iter}.solverstate")
        if saved or not self.relay.root:
            return
        self.last_state = self.relay.snapshot()
        self.report.say(f"Snapshot: {self.last_state}")
        self.report.pause()


def top_errors(net_param, means):
    """{k: top-k error in %} from the Accuracy layers' means."""
    errors = {}
    for layer in net_param.layer:
        if layer.type == "Accuracy" and layer.top[0] in means:
            errors[layer.accuracy_param.top_k] = 100 * (1 - means[layer.top[0]])
    return errors


def summary(title, seconds, iteration, errors, images, run):
    """The closing lines of a run: error rates, and where the files are."""
    rates = ", ".join("top-%d error %.2f %%" % item for item in sorted(errors.items()))
    return "%s: %d iterations in %s; %s\nEverything lies in %s" % (
        title,
        iteration,
        clock(seconds),
        rates + " on %d images" % images if rates else "not tested",
        run,
    )
