"""Signals as requests to a running training: snapshot, stop or none."""

import contextlib
import datetime
import math
import os
import signal
import time
from typing import Optional

from .errors import CaffeError

EFFECTS = ("snapshot", "stop", "none")
# the caffe command's own
CAFFE_EFFECTS: dict[int, str] = {signal.SIGINT: "stop", signal.SIGHUP: "snapshot"}
# how schedulers announce the end
CLUSTER: tuple[int, ...] = (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)


class Signals:
    """While entered, the signals in `effects` have the named effects; `requested()` returns them.

    effects: {signal number: "snapshot", "stop" or "none"}; those in CLUSTER always stop, and
    `status` is then 128 + signal, the exit status that the process should have. A request that is
    already waiting is not noted again. A second SIGINT interrupts at once, unless `patient`: a
    launcher of several processes repeats what the terminal has sent. acknowledges: whether a line
    on stderr says at once that a signal has come. time_limit_s: seconds from now on after which it
    is as if SIGXCPU had come. Raises CaffeError for an unknown effect.

    interrupts: may be set, where nothing runs yet that could take a snapshot, so that the first
    SIGINT already interrupts at once.
    """

    def __init__(
        self,
        effects: dict[int, str],
        patient: bool = False,
        acknowledges: bool = False,
        time_limit_s: float = math.inf,
    ):
        for effect in effects.values():
            if effect not in EFFECTS:
                raise CaffeError(
                    f"invalid signal effect {effect!r}; expected one of " + ", ".join(EFFECTS)
                )
        self.status = 0
        self._effects = {**effects, **dict.fromkeys(CLUSTER, "stop")}
        self._patient, self._acknowledges = patient, acknowledges
        self.interrupts = False
        self._limit_s, self._end_s = time_limit_s, time.monotonic() + time_limit_s
        self._waiting: list[str] = []

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> Optional[str]:
        """Take the oldest request, "snapshot" or "stop"; None if none waits."""
        if time.monotonic() > self._end_s:
            self._end_s = math.inf
            limit = datetime.timedelta(seconds=round(self._limit_s))
            self._request(signal.SIGXCPU, f"time limit of {limit} reached")
        return self._waiting.pop(0) if self._waiting else None

    def _note(self, number: int, frame: object) -> None:
        again = self._effects[number] in self._waiting and not self._patient
        if number == signal.SIGINT and (again or self.interrupts):
            raise KeyboardInterrupt
        self._request(number, signal.Signals(number).name)

    def _request(self, number: int, why: str) -> None:
        effect = self._effects[number]
        if number in CLUSTER:
            self.status = 128 + number
        if effect != "none" and effect not in self._waiting:
            self._waiting.append(effect)
            self._acknowledge(why, effect)

    def _acknowledge(self, why: str, effect: str) -> None:
        what = {"stop": "a snapshot and the end come", "snapshot": "a snapshot comes"}[effect]
        if self._acknowledges:  # not by print, which may be what the signal has interrupted
            with contextlib.suppress(OSError):
                line = f"{why}: {what} after this batch\n"
                # on a terminal clear of the ^C before it, and of a bar's two lines that follow
                os.write(2, (f"\n{line}\n" if os.isatty(2) else line).encode())
