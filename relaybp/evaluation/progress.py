"""How far a test is: images/s and the time left."""

from __future__ import annotations

import sys
import time

from ..report import clock

EVERY_S = 30  # between two lines; a terminal's one line changes at most twice a second


class Progress:
    """Shows on stderr how many of `total` images are done."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0.0
        self.live = sys.stderr.isatty()
        self.begun = self._shown = time.monotonic()

    def count(self, images: float) -> None:
        """Count images that are done; parts of one count as fractions."""
        self.done += images
        now = time.monotonic()
        if now - self._shown >= (0.5 if self.live else EVERY_S):
            self._shown = now
            self._show(now - self.begun)

    def _show(self, seconds: float) -> None:
        speed = self.done / max(seconds, 1e-9)
        left = clock((self.total - self.done) / max(speed, 1e-9))
        line = f"{self.title}  {int(self.done)}/{self.total}  {speed:.1f} images/s  {left} left"
        start, end = ("\r\033[K", "") if self.live else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the terminal's line."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
