"""SIGINT and SIGHUP as requests to a solver: snapshot, stop or none."""

import signal

from caffe_plain.errors import CaffeError

EFFECTS = ("snapshot", "stop", "none")


class Signals:
    """While entered, SIGINT and SIGHUP have the named effects; `requested()` hands them out.

    A second SIGINT while the first one still waits interrupts at once.
    """

    def __init__(self, sigint="stop", sighup="snapshot"):
        self._effects = {signal.SIGINT: sigint, signal.SIGHUP: sighup}
        for effect in self._effects.values():
            if effect not in EFFECTS:
                raise CaffeError(
                    f"invalid signal effect {effect!r}; expected one of " + ", ".join(EFFECTS)
                )
        self._waiting = []

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self):
        """The oldest request, "snapshot" or "stop", or None."""
        return self._waiting.pop(0) if self._waiting else None

    def _note(self, number, frame):
        effect = self._effects[number]
        if number == signal.SIGINT and effect in self._waiting:
            raise KeyboardInterrupt
        if effect != "none" and effect not in self._waiting:
            self._waiting.append(effect)
