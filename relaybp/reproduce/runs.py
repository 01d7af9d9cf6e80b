"""The runs behind a table: each is found, continued, trained anew, or refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import caffe_plain
from caffe_plain.files import write_atomically

from .. import identity, models, relay_file, run_plan, snapshots, tables
from ..commands import train
from ..errors import RelayError
from .data import DRAWN, DataSet, kind_of
from .scales import SMOKE
from .spec import Training

SMOKE_WORDS = ("--batch", "8")
SMOKE_EPOCHS = 0.1
SHORT = 100  # iterations, in which nothing is tested or saved before the end
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)
FINISHED, NEW = "finished", "to train"
FP32 = "fp32"


@dataclass(frozen=True)
class Options:
    """How a table is reproduced: the scale, the seeds, epochs (None: the models' own schedules),
    the folder for everything, the GPU, the precision of trainings and tests, and a pattern of the
    runs that are trained (fnmatch's, of Training.name)."""

    scale: str
    seeds: tuple[int, ...]
    epochs: float | None
    out: str
    gpu: str = "auto"
    precision: str = FP32
    only: str = "*"


@dataclass
class Run:
    """A training with one seed. words: the arguments of `relay train`; state: FINISHED, NEW, or
    from where it goes on; iterations, images: those of the whole schedule."""

    training: Training
    seed: int
    folder: str
    words: list[str]
    state: str
    iterations: int
    images: int
    identity: dict[str, Any] = field(repr=False)


class Runs:
    """Plans and trains runs below OUT/runs; data: those of data.find."""

    def __init__(self, engine: Any, options: Options, data: dict[str, DataSet]):
        self.engine, self.options, self.data = engine, options, data

    def folder(self, training: Training, seed: int) -> str:
        """The folder of a run; settings that a user may vary are part of its name."""
        epochs = f"{self.options.epochs:g}epochs" if self.options.epochs else ""
        precision = self.options.precision if self.options.precision != FP32 else ""
        name = "-".join(filter(None, (training.name, epochs, precision, f"seed{seed}")))
        return os.path.join(self.options.out, "runs", name)

    def plan(self, training: Training, seed: int) -> Run:
        """What is to be done for a run. Raises RelayError where another run is in its folder."""
        words = self._words(training, seed)
        plan = self._plan(words)
        iterations = plan.solver.max_iter
        epochs = self.options.epochs or (SMOKE_EPOCHS if self.options.scale == SMOKE else None)
        if epochs:
            records = self.data[training.data].train
            words += shortened(plan, epochs, records / batch_of(plan))
            plan = self._plan(words)
            iterations = plan.solver.max_iter
        folder, wanted = self.folder(training, seed), plan.identity(train.arguments(words))
        record = identity.check(folder, wanted)
        if record:
            plan.save()  # the folder or the data may have been moved since
        images = iterations * batch_of(plan)
        state = self._state(plan, record)
        return Run(training, seed, folder, words, state, iterations, images, wanted)

    def _words(self, training: Training, seed: int) -> list[str]:
        words = ["--model", training.model, "--data", self.data[training.data].path]
        words += ["--profile", "full", "--out", self.folder(training, seed)]
        words += ["--gpu", self.options.gpu, "--precision", self.options.precision]
        words += ["--set", f"random_seed={seed}"]
        kind = kind_of(training.data)
        words += [*(kind.words if kind else ()), *training.words]
        if training.data == DRAWN:
            words += SMOKE_WORDS
        if training.relay:
            words += ["--relay", self._relay_file(training)]
        return words

    def _relay_file(self, training: Training) -> str:
        """OUT/relay/NAME.prototxt: the model's relay file with the training's own fields."""
        folder, _ = models.find(training.model)
        relay = relay_file.read_relay(os.path.join(folder, "relay.prototxt"))
        own = relay_file.parse_fields(training.relay)
        for name, _ in [*own.ListFields()]:
            relay.ClearField(name.name)
        relay.MergeFrom(own)
        path = os.path.join(self.options.out, "relay", f"{training.name}.prototxt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, str(relay))
        return path

    def _plan(self, words: list[str]) -> run_plan.Plan:
        return run_plan.make_plan(self.engine.pb, train.arguments(words), draws=False)

    def _state(self, plan: run_plan.Plan, record: dict[str, Any] | None) -> str:
        if record is None:
            return NEW
        if record["state"] == identity.FINISHED:
            return FINISHED
        state, _ = snapshots.newest(plan.solver.snapshot_prefix)
        return f"goes on from {os.path.basename(state)}" if state else NEW

    def train(self, run: Run) -> None:
        """Train a run to its end. Raises RelayError where it ends before."""
        status = run_together([sys.executable, "-m", "relaybp", "train", "--no-next", *run.words])
        record = identity.check(run.folder, run.identity)
        if status or record is None or record["state"] != identity.FINISHED:
            done = f"after {record['iteration']} iterations" if record else "before it began"
            raise RelayError(
                f"{run.folder}: the training ended {done}, with status {status}; "
                "the same command goes on from its newest snapshot"
            )
        run.state = FINISHED

    def seconds(self, run: Run) -> float | None:
        """How long a run will take, by the speed of another of the same model; None: not known."""
        folder = os.path.join(self.options.out, "runs")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.startswith(f"{run.training.name}-"):
                speed = _speed(os.path.join(folder, name, tables.METRICS))
                if speed:
                    return run.images / speed
        return None


def batch_of(plan: run_plan.Plan) -> int:
    """The images of one update."""
    return identity.of_batch(plan.solver, plan.net)


def shortened(plan: run_plan.Plan, epochs: float, iterations_per_epoch: float) -> list[str]:
    """The --set arguments that shorten (or lengthen) a schedule proportionally to some epochs."""
    solver, extra = plan.solver, plan.extra
    length = max(1, round(epochs * iterations_per_epoch))
    share = length / solver.max_iter
    found: dict[str, Any] = {"max_iter": length}
    for message, name in (
        (solver, "stepvalue"),
        (solver, "stepsize"),
        (extra, "plateau_winsize"),
        (extra, "rampup_interval"),
    ):
        value = getattr(message, name)
        steps = [value] if isinstance(value, int) else value
        if any(steps):
            found[name] = ",".join(str(max(1, round(step * share))) for step in steps)
    for name in ("test_interval", "snapshot"):
        found[name] = min(getattr(solver, name), length if length < SHORT else length // 4)
    found["display"] = max(1, min(solver.display, length))
    return [word for name, value in found.items() for word in ("--set", f"{name}={value}")]


def run_together(command: list[str]) -> int:
    """Run a command that gets the signals of this process; return its exit status.

    It is in a session of its own, so that Ctrl-C reaches it once, and it can end in order.
    """
    with subprocess.Popen(command, env=_environment(), start_new_session=True) as process:
        before = {
            number: signal.signal(number, lambda sent, frame: process.send_signal(sent))
            for number in FORWARDED
        }
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _environment() -> dict[str, str]:
    """This one's, in which a command finds the packages that are in use here."""
    here = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    paths = [os.path.dirname(path) for path in (*here, os.path.dirname(caffe_plain.__file__))]
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *([known] if known else [])])}


def _speed(path: str) -> float | None:
    """The last images/s of a metrics.csv."""
    found = [float(row["value"]) for row in tables.read(path) if row["name"] == "images/s"]
    return found[-1] if found and found[-1] > 0 else None
