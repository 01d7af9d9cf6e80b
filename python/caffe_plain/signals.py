"""Signals as requests to a running training: snapshot, stop or none."""

import signal
from typing import Optional

from .errors import CaffeError

EFFECTS = ("snapshot", "stop", "none")
CAFFE_EFFECTS = {signal.SIGINT: "stop", signal.SIGHUP: "snapshot"}  # the caffe command's own


class Signals:
    """While entered, the signals in `effects` have the named effects; `requested()` returns them.

    effects: {signal number: "snapshot", "stop" or "none"}. A request that is already waiting is not
    noted again, but a second SIGINT interrupts at once. Raises CaffeError for an unknown effect.
    """

    def __init__(self, effects: dict[int, str]):
        for effect in effects.values():
            if effect not in EFFECTS:
                raise CaffeError(
                    f"invalid signal effect {effect!r}; expected one of " + ", ".join(EFFECTS)
                )
        self._effects = dict(effects)
        self._waiting = []

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> Optional[str]:
        """Take the oldest request, "snapshot" or "stop"; None if none waits."""
        return self._waiting.pop(0) if self._waiting else None

    def _note(self, number, frame):
        effect = self._effects[number]
        if number == signal.SIGINT and effect in self._waiting:
            raise KeyboardInterrupt
        if effect != "none" and effect not in self._waiting:
            self._waiting.append(effect)
