"""Caffe's log lines: what existing log parsers read.

Plain Python, so that a driver on another Caffe can use it too.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import sys
import tempfile
import time
from collections import deque
from typing import Any

from .errors import CaffeError

logger = logging.getLogger("caffe")
logger.setLevel(logging.INFO)
_handlers: list[logging.Handler] = []  # what init_log has set up
_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class GlogFormatter(logging.Formatter):
    """glog's line: `I1231 23:59:59.123456  4711 solver.cpp:239] message`.

    The file is the Caffe source that the logger is named after: "caffe.solver" for solver.cpp.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.localtime(record.created)
        micro = int(record.created % 1 * 1e6)
        text = super().format(record)
        letter = "F" if record.levelno == logging.CRITICAL else record.levelname[0]
        return (
            f"{letter}{time.strftime('%m%d %H:%M:%S', seconds)}.{micro:06d} "
            f"{record.process:5d} {record.name.rpartition('.')[2]}.cpp:{record.lineno}] {text}"
        )


def init_log(level: int | None = None, stderr: bool = True) -> logging.Handler:
    """Show the log on stderr, or write it to a file in the temporary folder; return its handler.

    level: 0 all, 1 warnings, 2 errors, 3 fatal errors; by default glog's GLOG_minloglevel.
    """
    handler = (
        logging.StreamHandler(sys.stderr)
        if stderr
        else logging.FileHandler(_file_name(tempfile.gettempdir(), _program()))
    )
    while _handlers:
        logger.removeHandler(_handlers[-1])
        _handlers.pop().close()
    return _add(handler, level)


def log_to_folder(
    folder: str, program: str | None = None, level: int | None = None
) -> logging.Handler:
    """Also write the log to a file in `folder`, to which PROGRAM.INFO then points (glog's log_dir).

    program: the file's name begins with it; by default that of the running program.
    """
    program = program or _program()
    handler = logging.FileHandler(_file_name(folder, program))
    link = os.path.join(folder, program + ".INFO")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(os.path.basename(handler.baseFilename), link)
    return _add(handler, level)


def _add(handler: logging.Handler, level: int | None) -> logging.Handler:
    if level is None:
        level = _least_level()
    handler.setFormatter(GlogFormatter())
    handler.setLevel(_LEVELS[min(max(level, 0), 3)])
    _handlers.append(handler)
    logger.addHandler(handler)
    return handler


def _least_level() -> int:
    """What glog's own variable says."""
    text = os.environ.get("GLOG_minloglevel", "0")  # noqa: SIM112 glog's own name
    try:
        return int(text)
    except ValueError:
        raise CaffeError(f"GLOG_minloglevel={text}: expected a number from 0 to 3") from None


def log(text: str) -> None:
    """Log a line of your own."""
    show_log()
    say("_caffe", text)


def show_log() -> None:
    """Show the log on stderr, as Caffe does, unless logging is already set up."""
    if not logger.hasHandlers():
        init_log()


def _program() -> str:
    return os.path.basename(sys.argv[0]) or "python"


def _file_name(folder: str, program: str) -> str:
    """glog's name of a log file: program.host.user.log.INFO.date-time.process."""
    return os.path.join(
        folder,
        ".".join(
            [
                program,
                socket.gethostname(),
                getpass.getuser(),
                "log",
                "INFO",
                time.strftime("%Y%m%d-%H%M%S"),
                str(os.getpid()),
            ]
        ),
    )


def say(source: str, text: str, level: int = logging.INFO) -> None:
    """Log a line as from Caffe's `source`.cpp; a line break at its end adds no empty line."""
    logger.getChild(source).log(level, text.rstrip("\n"), stacklevel=2)


class SolverLog:
    """Writes a solver's lines: smoothed loss, outputs of the nets, learning rate.

    quiet: write no line about iterations (solvers that train together log once).
    """

    def __init__(self, param: Any, quiet: bool = False):
        self.param, self.quiet = param, quiet
        self._losses: deque[Any] = deque(maxlen=max(param.average_loss, 1))
        self._shown_at: tuple[int, float] | None = None  # (iteration, seconds)
        self._next: int | None = None  # the iteration after the last one

    def solving(self, name: str) -> None:
        """A training of the net `name` begins: log readers count their seconds from here."""
        if not self.quiet:
            say("solver", f"Solving {name}")
            say("solver", f"Learning Rate Policy: {self.param.lr_policy}")

    def begin(self, iteration: int) -> None:
        """Start a run of iterations, smoothed by itself.

        It is timed from here, or from the last line where it goes on after the run before it, so
        that a loop of solver.step(1) has the speed of one step(n).
        """
        self._losses.clear()
        if iteration != self._next:
            self._shown_at = (iteration, time.monotonic())

    @property
    def smoothed_loss(self) -> float:
        """The mean of the last `average_loss` losses."""
        return sum(map(float, self._losses)) / len(self._losses)

    def iteration(self, solver: Any, loss: Any) -> None:
        """Log all that Caffe prints, every `display` iterations, after a backward pass.

        loss: for float(), which is called when it is shown or when the next one comes, because it
        may wait for a GPU.
        """
        if self._losses:
            self._losses[-1] = float(self._losses[-1])
        self._losses.append(loss)
        self._next = solver.iter + 1
        due, param = self.due(solver.iter), self.param
        if due:
            self._show(solver)
        if param.lr_policy == "multistep" and solver.iter in param.stepvalue and not self.quiet:
            step = sum(value <= solver.iter for value in param.stepvalue)
            say("sgd_solver", f"MultiStep Status: Iteration {solver.iter}, step = {step}")
        if due:
            say("sgd_solver", f"Iteration {solver.iter}, lr = {solver.learning_rate():.6g}")

    def _show(self, solver: Any) -> None:
        loss, now = self.smoothed_loss, time.monotonic()
        before, since = self._shown_at or (solver.iter, now)
        passed = now - since
        speed = (solver.iter - before) / (passed or 1)
        self._shown_at = (solver.iter, now)
        say(
            "solver",
            f"Iteration {solver.iter} ({speed:.6g} iter/s, {passed:.6g}s/"
            f"{self.param.display} iters), loss = {loss:.6g}",
        )
        self._outputs(
            "Train", solver.net, {name: solver.net.blobs[name].data for name in solver.net.outputs}
        )

    def due(self, iteration: int) -> bool:
        """Whether the settings ask to show this iteration."""
        return not self.quiet and bool(self.param.display) and iteration % self.param.display == 0

    def last(self, iteration: int, loss: float) -> None:
        """Log the loss of one more forward pass, after the last update."""
        self._losses.append(loss)
        say("solver", f"Iteration {iteration}, loss = {self.smoothed_loss:.6g}")

    def testing(self, iteration: int, index: int) -> None:
        """A test pass begins."""
        say("solver", f"Iteration {iteration}, Testing net (#{index})")

    def test_loss(self, loss: float) -> None:
        """The mean loss of a test net."""
        say("solver", f"Test loss: {loss:.6g}")

    def class_result(self, label: int, precision: float) -> None:
        """The average precision of a class, if the settings ask for it."""
        if getattr(self.param, "show_per_class_result", False):
            say("solver", f"class{label}: {precision:.6g}")

    def test_outputs(self, net: Any, means: dict[str, Any]) -> None:
        """The mean outputs of a test net, {name: array}."""
        self._outputs("Test", net, means)

    def _outputs(self, phase: str, net: Any, values: dict[str, Any]) -> None:
        weights, number = net.blob_loss_weights, 0
        for name, array in values.items():
            for value in array.ravel():
                weight = weights[name]
                share = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                say("solver", f"    {phase} net output #{number}: {name} = {value:.6g}{share}")
                number += 1
