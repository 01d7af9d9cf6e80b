"""A training run: steps up to max_iter, with progress, tests, snapshots and signals."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from caffe_plain.late import Late
from caffe_plain.signals import CAFFE_EFFECTS, Signals

from . import snapshots
from .errors import NotFiniteError
from .finite import Finite, check_weights
from .progress import clock
from .recovery import STOP, Recovery
from .report import NoReport, Report

if TYPE_CHECKING:
    from .relay_solver import RelaySolver
    from .retention import Keep


class Trainer:
    """Trains up to max_iter: `relay` is what `attach` returned, `report` what the user sees.

    SIGINT takes a snapshot and stops, SIGHUP takes a snapshot, as the caffe command does; what
    clusters send to end a job stops too. A training that was stopped has a `status` other than 0.
    signals: those that are noted already, by default this one's own while it trains; on_nan: see
    Recovery; keep: which snapshots stay, by default all. Of several processes, the first tests and
    saves; a signal to any of them is answered by all in the same iteration.
    """

    def __init__(
        self,
        relay: RelaySolver,
        report: Report | NoReport,
        signals: Signals | None = None,
        on_nan: str = STOP,
        keep: Keep | None = None,
    ):
        self.relay, self.solver, self.report = relay, relay.solver, report
        self.param, net = self.solver.param, relay.net
        self.group = relay.schedule.group
        self.losses = [name for name, weight in net.blob_loss_weights.items() if weight]
        self.images = next(iter(net.blobs.values())).shape[0] * self.param.iter_size
        own = Signals(CAFFE_EFFECTS, patient=self.group.size > 1)
        self.signals = signals or own
        self._entered = nullcontext() if signals else own
        self.late = Late()  # reports of iterations
        self.finite, self.recovery, self.keep = Finite(relay), Recovery(self, on_nan), keep
        self.stopped = self._iterating = False
        self.last_test: dict[str, float] | None = None
        self._saved_at: int | None = None  # iterations
        self._tested_at: int | None = None

    def train(self) -> dict[str, float] | None:
        """Run to max_iter, or to an interrupt; return the last test's {output name: mean}.

        Raises NotFiniteError where a number is not finite and `on_nan` says so. Whatever else
        goes wrong, LostProcessError where another of the processes that train together has ended,
        is raised after a snapshot of the last whole iteration, where one can be made.
        """
        self.relay.log.solving(self.relay.engine.net_param(self.solver).name)
        self.report.start(self.relay.iter)
        with self._entered:
            try:
                while not self._is_over:
                    try:
                        self._iterate_all()
                    except NotFiniteError as error:
                        self.recovery.serve(error)
                self._finish()
            except NotFiniteError:
                raise
            except Exception as error:
                self._save_in_an_emergency(error)
                raise
            finally:
                self.late.finish()
                self.solver.finish_reports()
        return self.last_test

    @property
    def status(self) -> int:
        """With what the process is to end: 0, or 128 + the signal that stopped the training."""
        return self.signals.status or (128 + signal.SIGINT if self.stopped else 0)

    @property
    def _is_over(self):
        return self.stopped or self.solver.is_over or self.relay.iter >= self.param.max_iter

    def _iterate_all(self):
        while not self._is_over and self._goes_on():
            if self.relay.test_due and self._tested_at != self.relay.iter:
                self.test()
                if self._is_over:
                    break
            self.iterate()
            if self.relay.snapshot_due:
                self.snapshot()
        self._finish_reports()

    def go_on_from(self, iteration: int) -> None:
        """Forget what was reported beyond an iteration: it comes again."""
        if self._tested_at is not None and self._tested_at > iteration:
            self._tested_at = None
        self.report.go_on_from(iteration)

    def newest(self, before: int | None = None) -> str | None:
        """The newest whole snapshot of this run, see `snapshots`, the same in all processes."""
        prefix = self.param.snapshot_prefix
        return self.group.first(snapshots.newest(prefix, before)[0] if self.relay.root else None)

    def _save_in_an_emergency(self, error: Exception) -> None:
        """A snapshot of the last whole iteration, as if the broken one had not begun."""
        self.late.finish()
        if not self.relay.root:
            return
        if not self.relay.is_whole:
            self.report.say("No snapshot: an iteration was half done")
            return
        try:
            if self._iterating:
                self.finite.mark.restore()
            check_weights(self.relay.net, "after the last update")
            self._write_snapshot()
        except Exception as another:  # the first one is what matters
            if str(another) != str(error):
                self.report.say(f"No snapshot: {another}")

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
        if self.solver.is_over:
            self.report.say(f"Early stopping at iteration {self.relay.iter}")
        if not self.stopped and self.param.test_iter and self._tested_at != self.relay.iter:
            self.test()

    def iterate(self) -> None:
        """One iteration; it is reported at the latest in the next one."""
        rate = self.solver.learning_rate()
        self._iterating = True
        self.relay.iterate()
        self._iterating = False
        done, blobs = self.relay.iter, self.relay.net.blobs
        self.late.add(
            [self.relay.engine.value(blobs[name]) for name in self.losses],
            lambda *values: self.report.iteration(
                done, self.images, dict(zip(self.losses, values)), rate
            ),
        )

    def _finish_reports(self):
        """Report all iterations that are over, which are then known to be finite."""
        self.finite.finish()
        self.late.finish()
        self.solver.finish_reports()

    def test(self) -> None:
        """Test, and report the mean of each output."""
        self._finish_reports()
        if self.relay.root:
            found = self._test_all()
        else:
            found = []
            all(self._goes_on() for _ in range(sum(self.param.test_iter)))
        if self.stopped:
            return
        self._tested_at = self.relay.iter
        self.relay.observe_test(found)
        if not self.relay.root:
            return
        self.last_test = {
            name: float(mean.mean()) for means in found for name, mean in means.items()
        }
        self.report.test(self.relay.iter, self.last_test)
        if self.keep:
            self.keep.tested(self.relay.iter, self.last_test)
        self.report.say(
            "Test at iteration %d: %s"
            % (
                self.relay.iter,
                ", ".join("{} {:.4f}".format(*item) for item in self.last_test.items()),
            )
        )
        if self.relay.not_finite:
            self.report.say(
                f"NOTE: {self.relay.not_finite} images had scores that are NaN or infinite; they "
                "count as wrong"
            )
        self.report.pause()

    def _test_all(self) -> list[dict[str, Any]]:
        """Run all test nets, and show how far they are."""
        sizes = [
            next(iter(net.blobs.values())).shape[0]
            for net, batches in zip(self.relay.solver.test_nets, self.param.test_iter)
            for _ in range(batches)
        ]
        with self.report.testing(sum(sizes)) as count:
            done = iter([0, *sizes])

            def go_on() -> bool:
                count(next(done, 0))
                return self._goes_on()

            return self.relay.test_all(go_on)

    def snapshot(self) -> None:
        """Write the weights and the state, in the first process and once an iteration."""
        self._finish_reports()
        if self._saved_at == self.relay.iter:
            return
        check_weights(self.relay.net, f"iteration {self.relay.iter}: after its update")
        self._saved_at = self.relay.iter
        if self.relay.root:
            self._write_snapshot()

    def _write_snapshot(self) -> None:
        state = self.relay.snapshot()
        self.report.say(f"Snapshot: {state}")
        if self.keep:
            self.keep(self.param.snapshot_prefix)
        self.report.pause()


def top_errors(net_param: Any, means: dict[str, float]) -> dict[int, float]:
    """{k: top-k error in %} from the Accuracy layers' means, without k guesses of k classes."""
    found = [
        (layer.accuracy_param.top_k, layer)
        for layer in net_param.layer
        if layer.type == "Accuracy" and layer.top[0] in means
    ]
    return {
        k: 100 * (1 - means[layer.top[0]])
        for k, layer in found
        if k != outputs(net_param, layer.bottom[0])
    }


def outputs(net_param: Any, blob: str) -> int:
    """The num_output of the layer that computes a blob; 0 where it has none."""
    found = [layer for layer in net_param.layer if blob in layer.top]
    counts = [
        layer.inner_product_param.num_output or layer.convolution_param.num_output
        for layer in found
    ]
    return max(counts, default=0)


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
