"""The solver driver: forward, one backward range after another, update, test, snapshot."""

import signal

from caffe_plain.glog import SolverLog

from .report import clock


class Trainer:
    """Trains a solver's net up to max_iter, iteration by iteration of a schedule.

    solver: `engine.make_solver`'s; param: its SolverParameter; report: a Report.
    SIGINT takes a snapshot and stops, SIGHUP takes a snapshot, as the caffe command does.
    """

    def __init__(self, solver, param, schedule, report):
        self.solver, self.param, self.report = solver, param, report
        self.schedule = schedule
        self.net = solver.net
        self.losses = [name for name, weight in self.net.blob_loss_weights.items() if weight]
        self.images = next(iter(self.net.blobs.values())).shape[0] * param.iter_size
        self.log = SolverLog(param)
        self.wanted = set()  # signals that wait to be served
        self.last_test = None
        self.last_state = None

    def train(self):
        """Run to max_iter, or to an interrupt; return the last test's {output name: mean}."""
        with _Signals(self.wanted):
            self.report.start(self.solver.iter)
            while self.solver.iter < self.param.max_iter:
                if self._due(self.param.test_interval, self.param.test_initialization):
                    self.test()
                self.iterate()
                if self._due(self.param.snapshot, False) or signal.SIGHUP in self.wanted:
                    self.wanted.discard(signal.SIGHUP)
                    self.snapshot()
                if signal.SIGINT in self.wanted:
                    self.report.say("Interrupted at iteration %d" % self.solver.iter)
                    break
        finished = self.solver.iter >= self.param.max_iter
        saved = (self.last_state or "").endswith(f"_iter_{self.solver.iter}.solverstate")
        if not saved and (self.param.snapshot_after_train or not finished):
            self.snapshot()
        if finished and self.param.test_iter:
            self.test()
        return self.last_test

    def iterate(self):
        """One iteration, logged."""
        rate = self.solver.learning_rate()
        self.schedule.iterate(lambda loss: self.log.iteration(self.solver, loss))
        values = {name: float(self.net.blobs[name].data) for name in self.losses}
        self.report.iteration(self.solver.iter, self.images, values, rate)

    def _due(self, interval, at_start):
        return interval and self.solver.iter % interval == 0 and (self.solver.iter or at_start)

    def test(self):
        """Average the outputs of every test net over its test_iter batches."""
        self.last_test = {}
        for index, net in enumerate(self.solver.test_nets):
            self.log.testing(self.solver.iter, index)
            net.share_with(self.net)
            means = average_outputs(net, self.param.test_iter[index])
            self.log.test_outputs(net, means)
            self.last_test.update((name, float(mean.mean())) for name, mean in means.items())
        self.report.test(self.solver.iter, self.last_test)
        self.report.say(
            "Test at iteration %d: %s"
            % (
                self.solver.iter,
                ", ".join("{} {:.4f}".format(*item) for item in self.last_test.items()),
            )
        )
        self.report.pause()

    @property
    def images_tested(self):
        """How many images a test of all test nets looks at."""
        return sum(
            batches * next(iter(net.blobs.values())).shape[0]
            for net, batches in zip(self.solver.test_nets, self.param.test_iter)
        )

    def restore(self, path):
        """Continue from a snapshot."""
        self.solver.restore(path)
        self.schedule.restore(path)

    def snapshot(self):
        """Write the weights and the solver's state."""
        self.last_state = self.solver.snapshot()
        self.schedule.save(self.last_state)
        self.report.say(f"Snapshot: {self.last_state}")
        self.report.pause()


def average_outputs(net, batches):
    """{output name: mean array} over `batches` forward passes."""
    totals = {}
    for _ in range(batches):
        net._forward(0, len(net.layers) - 1)
        for name in net.outputs:
            totals[name] = totals.get(name, 0) + net.blobs[name].data.astype("float64")
    return {name: total / batches for name, total in totals.items()}


def top_errors(net_param, means):
    """{k: top-k error in %} from the Accuracy layers' means."""
    errors = {}
    for layer in net_param.layer:
        if layer.type == "Accuracy" and layer.top[0] in means:
            errors[layer.accuracy_param.top_k] = 100 * (1 - means[layer.top[0]])
    return errors


def summary(title, seconds, iteration, errors, images, run):
    """The closing lines of a run: error rates and where everything lies."""
    rates = ", ".join("top-%d error %.2f %%" % item for item in sorted(errors.items()))
    return "%s: %d iterations in %s; %s\nEverything lies in %s" % (
        title,
        iteration,
        clock(seconds),
        rates + " on %d images" % images if rates else "not tested",
        run,
    )


class _Signals:
    """Collects SIGINT and SIGHUP in a set instead of dying of them."""

    def __init__(self, wanted):
        self.wanted = wanted

    def __enter__(self):
        self.before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGHUP)
        }

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if number == signal.SIGINT and number in self.wanted:
            raise KeyboardInterrupt  # the second time, stop at once
        self.wanted.add(number)
