"""What the user sees of a run: progress on the terminal, glog lines, a table, an event file."""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable

from caffe_plain.glog import GlogFormatter

from . import tables
from .events import EventFile
from .progress import Progress


class Report:
    """Writes RUN/train.log, RUN/metrics.csv and an event file, and shows the progress.

    A terminal gets a bar, anything else a line every `display` iterations.
    """

    def __init__(self, run: str, title: str, total: int, display: int, quiet: bool = False) -> None:
        self.run, self.title, self.total = run, title, total
        self.display = max(display, 1)
        self.quiet = quiet
        self.log = self._open_log()
        self._csv: Any = None
        self._open_table()
        self.events = EventFile(run)
        self._progress: Progress | None = None
        self._speed = _Speed()

    def _open_table(self) -> None:
        path = os.path.join(self.run, tables.METRICS)
        self._csv = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115, see close
        self._rows = csv.writer(self._csv)
        if not self._csv.tell():
            self._rows.writerow(tables.HEADER)

    def go_on_from(self, iteration: int) -> None:
        """Forget what is said of the time after a snapshot: a run goes on from there.

        A test comes after the snapshot of the same iteration, so it comes again.
        """
        with ignore_full_disk():
            self._csv.close()
        tables.cut(os.path.join(self.run, tables.METRICS), iteration, "train")
        tables.cut(os.path.join(self.run, tables.PROBE), iteration)
        self._open_table()
        self.events.go_on_from(iteration)

    def _open_log(self) -> logging.Logger:
        handler = _LogFile(os.path.join(self.run, "train.log"), encoding="utf-8")
        handler.setFormatter(GlogFormatter())
        log = logging.getLogger("caffe")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(handler)
        self._handler = handler
        return log

    def say(self, text: str) -> None:
        """A line for the terminal and the log."""
        self.log.info(text)
        if self.quiet:
            return
        if self._progress:
            self._progress.say(text)
        else:
            print(text, flush=True)

    def start(self, iteration: int) -> None:
        """Begin to show progress at `iteration`."""
        self._speed.start()
        if not self.quiet:
            self._progress = Progress(
                self.title, self.total, done=iteration, every_s=math.inf, stream=sys.stdout
            )

    def iteration(self, done: int, images: int, losses: dict[str, float], rate: float) -> None:
        """Report that `done` iterations are over, with the last one's losses, {name: value}."""
        self._speed.count(images)
        numbers = self._numbers(losses, rate)
        if self._progress:
            self._progress.set(done, numbers)
        if done % self.display and done != self.total:
            return
        speed = round(self._speed.images_per_s, 2)
        self._write(done, "train", {**losses, "lr": rate, "images/s": speed})
        if self._progress:
            self._progress.line(numbers)

    def _numbers(self, losses: dict[str, float], rate: float) -> str:
        shown = "  ".join("{} {:.4f}".format(*pair) for pair in losses.items())
        return f"{self._speed.images_per_s:.1f} images/s  {shown}  lr {rate:.4g}"

    @contextlib.contextmanager
    def testing(self, images: int) -> Iterator[Callable[[int], None]]:
        """While entered, the bar shows a test of so many images; yields what counts them."""
        if self._progress:
            with self._progress.instead("testing", images):
                yield self._progress.count
        else:
            yield lambda images: None

    def test(self, iteration: int, means: dict[str, float]) -> None:
        """Report the outcome of a test pass, {output name: value}."""
        self._write(iteration, "test", means)

    def _write(self, iteration: int, kind: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            with ignore_full_disk():
                self._rows.writerow([iteration, kind, name, repr(value)])
            with ignore_full_disk():
                self.events.scalar(iteration, f"{kind}/{name}", value)
        with ignore_full_disk():
            self._csv.flush()
        with ignore_full_disk():
            self.events.flush()

    def pause(self) -> None:
        """Leave tests and snapshots out of the speed."""
        self._speed.pause()

    def stop(self) -> None:
        """Take the bar away: what is said from now on are closing lines."""
        if self._progress:
            self._progress.close()
            self._progress = None

    def close(self) -> None:
        """Take the bar away and close all files."""
        self.stop()
        for file in (self._csv, self.events):
            with ignore_full_disk():
                file.close()
        self.log.removeHandler(self._handler)
        self._handler.close()


class _LogFile(logging.FileHandler):
    """train.log; a line that cannot be written is left out."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with ignore_full_disk():
            super().close()


def ignore_full_disk() -> contextlib.suppress:
    """A context in which what cannot be written is left out: it never ends a training."""
    return contextlib.suppress(OSError)


class NoReport:
    """What the other processes of a group show and write: nothing."""

    def say(self, text: Any) -> None:
        pass

    start = go_on_from = say

    def testing(self, images: int) -> contextlib.nullcontext[Callable[[int], None]]:
        return contextlib.nullcontext(lambda images: None)

    def iteration(self, done: int, images: int, losses: dict[str, float], rate: float) -> None:
        pass

    def test(self, iteration: int, means: dict[str, float]) -> None:
        pass

    def pause(self) -> None:
        pass

    stop = close = pause


class _Speed:
    """Images per second over the last minute or so of training."""

    def start(self) -> None:
        self.images = self.seconds = 0.0
        self._last = time.monotonic()

    def count(self, images: int) -> None:
        now = time.monotonic()
        passed, self._last = now - self._last, now
        keep = 0.5 ** (passed / 20)  # what is 20 s old counts half
        self.images = self.images * keep + images
        self.seconds = self.seconds * keep + passed

    def pause(self) -> None:
        self._last = time.monotonic()

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0
