"""How far something is: a bar on a terminal, anywhere else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

try:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
except ImportError:  # an original Caffe's Python has no rich: plain lines do
    Console = None  # type: ignore[assignment,misc]

EVERY_S = 30  # between two lines
PER_S = 4  # how often a bar is drawn
LEAST_BAR = 8  # columns
PLAIN = str.maketrans("━─…", "=-~")  # where a terminal has no more signs


class Progress:
    """Shows how many of `total` things are done, and the time that has passed and is left.

    A terminal gets a bar with `numbers` below it, which is gone when this is closed; anything else
    a line every `every_s` seconds, by default 30. unit: what is counted, for the speed; done: what
    was before; stream: where to show it, by default stderr.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "images",
        done: float = 0,
        every_s: float = EVERY_S,
        stream: TextIO | None = None,
    ) -> None:
        self.title, self.total, self.unit, self.every_s = title, total, unit, every_s
        self.stream = stream or sys.stderr
        self.first = self.done = done
        self.begun = self._shown = time.monotonic()
        live = Console is not None and self.stream.isatty()
        self._live: _Live | None = _Live(self) if live else None

    @property
    def seconds(self) -> float:
        """The time since this was made."""
        return time.monotonic() - self.begun

    @property
    def left(self) -> float:
        """The seconds that the rest will take, at the speed so far; 0 before the first."""
        new = self.done - self.first
        return self.seconds / new * (self.total - self.done) if new else 0.0

    def count(self, things: float) -> None:
        """Count things that are done; parts of one count as fractions."""
        self.set(self.done + things)

    def set(self, done: float, numbers: str = "") -> None:
        """Let so many be done; numbers: what else there is to say, instead of the speed."""
        self.done = done
        if self._live:
            self._live.numbers = numbers or self._speed()
        elif time.monotonic() - self._shown >= self.every_s:
            self.line(numbers)

    def of(self, done: int, total: int) -> None:
        """Let so many of `total` be done, where that is known only now."""
        self.total = total
        self.set(done)

    @contextlib.contextmanager
    def instead(self, title: str, total: int) -> Iterator[None]:
        """A context in which the bar shows something else, which is counted from 0."""
        names = ("title", "total", "unit", "first", "done", "begun")
        before = {name: getattr(self, name) for name in names}
        self.title, self.total, self.unit = title, total, "images"
        self.first, self.done, self.begun = 0, 0, time.monotonic()
        try:
            yield
        finally:
            vars(self).update(before)

    def line(self, numbers: str = "") -> None:
        """Show a line, where there is no bar."""
        if self._live:
            return
        self._shown = time.monotonic()
        count = f"{int(self.done)}/{self.total}"
        text = f"{self.title}  {count}  {numbers or self._speed()}  {clock(self.left)} left"
        print(text, file=self.stream, flush=True)

    def say(self, text: str) -> None:
        """Print a line; above the bar, where there is one."""
        if self._live:
            self._live.say(text)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._live:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _speed(self) -> str:
        return f"{(self.done - self.first) / max(self.seconds, 1e-9):.1f} {self.unit}/s"


class _Live:
    """Two lines that change in place: the bar, and the numbers."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.numbers = progress, ""
        self._console = Console(file=progress.stream)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=PER_S,
            transient=True,
        )
        self._live.start()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._live.stop()

    def _draw(self) -> Text:
        shown, width = self.progress, self._console.width
        count = f"{int(shown.done)}/{shown.total}"
        times = f"{clock(shown.seconds)} passed, {clock(shown.left)} left"
        parts = bar_line(shown.title, shown.done / max(shown.total, 1), f"{count}  {times}", width)
        plain = PLAIN if "utf" not in self._console.encoding else {}
        text = Text(no_wrap=True, overflow="ellipsis" if not plain else "crop")
        for part, style in zip(parts, ("bold", "cyan", "dim", "")):
            text.append(part.translate(plain), style)
        return text.append(f"\n  {self.numbers}")


def bar_line(title: str, share: float, rest: str, width: int) -> tuple[str, str, str, str]:
    """The title, the done and the open part of a bar, and the rest: `width` columns together."""
    room = width - len(rest) - 4 - LEAST_BAR  # two blanks on either side of the bar
    if len(title) > max(room, 1):
        title = title[: max(room - 1, 0)] + "…"
    columns = max(width - len(title) - len(rest) - 4, LEAST_BAR)
    done = round(columns * min(max(share, 0), 1))
    return f"{title}  ", "━" * done, "─" * (columns - done), f"  {rest}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    return "%d:%02d:%02d" % (minutes // 60, minutes % 60, seconds)
