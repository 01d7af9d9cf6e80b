"""One run in a folder at a time, and whether there is one."""

from __future__ import annotations

import fcntl
import os
import socket
import time

from . import identity
from .errors import RelayError

FILE = "lock"
KILLED = "ended without finishing"


class Lock:
    """Holds RUN/lock until `release` or the end of the process, however it ends.

    Raises RelayError where another process holds it; the error says which.
    """

    def __init__(self, run: str):
        path = os.path.join(run, FILE)
        try:
            os.makedirs(run, exist_ok=True)
            # kept open; a lock of lockf is not inherited, so that only this process holds it
            self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise RelayError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            who = self._file.read().strip() or "another process"
            self._file.close()
            raise RelayError(
                f"{run}: {who} trains in this folder (its file {FILE} is locked: "
                f"{error.strerror}); wait for its end, or choose another folder"
            ) from None
        self._file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since},\n")
        self._file.flush()

    def release(self) -> None:
        """Let another process train in the folder."""
        self._file.close()


def is_held(run: str) -> bool:
    """Whether another process holds RUN/lock.

    Not for the process that holds it: POSIX takes its lock away when it closes the file once more.
    """
    try:
        with open(os.path.join(run, FILE), encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for the moment until it is closed
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def state_of(run: str) -> str | None:
    """The state in a run's record, KILLED for RUNNING where no process trains; None without one."""
    held = is_held(run)  # first: a training records its end before it lets go
    record = identity.read(run)
    if record is None:
        return None
    return KILLED if record["state"] == identity.RUNNING and not held else str(record["state"])
