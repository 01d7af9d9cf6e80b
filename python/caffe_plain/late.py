"""Reports of numbers that a GPU may still be computing.

To read a number of the present iteration makes the program wait until the GPU has nothing to do.
So each is reported when the next one comes: by then the GPU has it, and has work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class Late:
    """Makes reports in the order in which they were added, each at most one late.

    A number is a float, or something for float() whose `is_here` says whether that need not wait.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Sequence[Any], Callable[..., None]]] = deque()

    def add(self, numbers: Sequence[Any], report: Callable[..., None]) -> None:
        """Call `report(*numbers)`, with floats: now if they are here, else when another is added.

        Those added before come first, whatever they must wait for.
        """
        self._waiting.append((numbers, report))
        while len(self._waiting) > 1 or (self._waiting and self._first_is_here()):
            self._report()

    def finish(self) -> None:
        """Make all reports, for the end, a test or a snapshot."""
        while self._waiting:
            self._report()

    def forget(self) -> None:
        """Make no report of what waits."""
        self._waiting.clear()

    def _first_is_here(self) -> bool:
        numbers, _ = self._waiting[0]
        return all(isinstance(number, float) or number.is_here for number in numbers)

    def _report(self) -> None:
        numbers, report = self._waiting.popleft()
        report(*map(float, numbers))
