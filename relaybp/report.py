"""What the user sees of a run: progress on the terminal, glog lines, a table, an event file."""

import csv
import logging
import os
import sys
import time

from caffe_plain.glog import GlogFormatter

from .events import EventFile

try:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
except ImportError:  # an original Caffe's Python has no rich: plain lines do
    Console = None  # type: ignore[assignment,misc]


class Report:
    """Writes RUN/train.log, RUN/metrics.csv and an event file, and shows the progress.

    A terminal gets a live bar, anything else a line every `display` iterations.
    """

    def __init__(self, run, title, total, display, quiet=False):
        self.run, self.title, self.total = run, title, total
        self.display = max(display, 1)
        self.quiet = quiet
        self.log = self._open_log()
        self._csv = open(  # noqa: SIM115, closed by close()
            os.path.join(run, "metrics.csv"), "a", newline="", encoding="utf-8"
        )
        self._rows = csv.writer(self._csv)
        if not self._csv.tell():
            self._rows.writerow(["iteration", "kind", "name", "value"])
        self.events = EventFile(run)
        self._live = None
        self._speed = _Speed()

    def _open_log(self):
        handler = logging.FileHandler(os.path.join(self.run, "train.log"), encoding="utf-8")
        handler.setFormatter(GlogFormatter())
        log = logging.getLogger("caffe")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(handler)
        self._handler = handler
        return log

    def say(self, text):
        """A line for the terminal and the log."""
        self.log.info(text)
        if self.quiet:
            return
        if self._live:
            self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def start(self, iteration):
        """Begin to show progress at `iteration`."""
        self._speed.start(iteration)
        if Console is not None and sys.stdout.isatty() and not self.quiet:
            self._live = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=Console(),
                refresh_per_second=4,
            )
            self._task = self._live.add_task(
                self.title, total=self.total, completed=iteration, numbers=""
            )
            self._live.start()

    def iteration(self, done, images, losses, rate):
        """Report that `done` iterations are over, with the last one's losses, {name: value}."""
        self._speed.count(images)
        if self._live:
            self._live.update(self._task, completed=done, numbers=self._numbers(losses, rate))
        if done % self.display and done != self.total:
            return
        speed = round(self._speed.images_per_s, 2)
        self._write(done, "train", {**losses, "lr": rate, "images/s": speed})
        if not self._live and not self.quiet:
            print(
                "%s  %d/%d  %s  %s left"
                % (
                    self.title,
                    done,
                    self.total,
                    self._numbers(losses, rate),
                    clock(self._speed.seconds_left(done, self.total)),
                ),
                flush=True,
            )

    def _numbers(self, losses, rate):
        shown = "  ".join("{} {:.4f}".format(*pair) for pair in losses.items())
        return f"{self._speed.images_per_s:.1f} images/s  {shown}  lr {rate:.4g}"

    def test(self, iteration, means):
        """Report the outcome of a test pass, {output name: value}."""
        self._write(iteration, "test", means)

    def _write(self, iteration, kind, values):
        for name, value in values.items():
            self._rows.writerow([iteration, kind, name, repr(value)])
            self.events.scalar(iteration, f"{kind}/{name}", value)
        self._csv.flush()
        self.events.flush()

    def pause(self):
        """Leave tests and snapshots out of the speed."""
        self._speed.pause()

    def close(self):
        if self._live:
            self._live.stop()
            self._live = None
        self._csv.close()
        self.events.close()
        self.log.removeHandler(self._handler)
        self._handler.close()


class NoReport:
    """What the other processes of a group show and write: nothing."""

    def say(self, text):
        pass

    start = say

    def iteration(self, done, images, losses, rate):
        pass

    def test(self, iteration, means):
        pass

    def pause(self):
        pass

    close = pause


class _Speed:
    """Images per second over the last minute or so of training."""

    def start(self, iteration):
        self.first, self.begun = iteration, time.monotonic()
        self.images = self.seconds = 0.0
        self._last = self.begun

    def count(self, images):
        now = time.monotonic()
        passed, self._last = now - self._last, now
        keep = 0.5 ** (passed / 20)  # what is 20 s old counts half
        self.images = self.images * keep + images
        self.seconds = self.seconds * keep + passed

    def pause(self):
        self._last = time.monotonic()

    @property
    def images_per_s(self):
        return self.images / self.seconds if self.seconds else 0.0

    def seconds_left(self, done, total):
        passed = time.monotonic() - self.begun
        return passed / max(done - self.first, 1) * (total - done)


def clock(seconds):
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    return "%d:%02d:%02d" % (minutes // 60, minutes % 60, seconds)
