"""One run in a folder at a time, and whether there is one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
import time
from typing import NoReturn

from . import identity
from .errors import RelayError

FILE = "lock"
KILLED = "ended without finishing"
HELD = (errno.EACCES, errno.EAGAIN)  # fcntl(2): another process holds the lock
# fcntl(2)'s struct flock: type, whence, start, length, process; on macOS in BSD's order
LINUX = sys.platform == "linux"
FLOCK, TYPE = struct.Struct("hhqqi4x" if LINUX else "qqihh"), 0 if LINUX else 3


class Lock:
    """Holds RUN/lock until `release` or the end of the process, however it ends.

    Raises RelayError where a process holds it, which the error names, or where it cannot be made.
    """

    # By device and number of the file. POSIX takes a lock away when its process closes the file
    # once more, so a process must not open a file that it has locked.
    _held: dict[tuple[int, int], Lock] = {}

    def __init__(self, run: str):
        path = os.path.join(run, FILE)
        if Lock.is_own(path):
            raise RelayError(f"{run}: this process trains in this folder already")
        try:
            os.makedirs(run, exist_ok=True)
            # kept open; a lock of lockf is not inherited, so that only this process holds it
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise RelayError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._refuse(run, error)
        self._process = os.getpid()
        self._held[_number(path)] = self
        self._sign()

    def _sign(self) -> None:
        """Write into the file who has locked it; a full disk has other ways to say so."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        who = f"process {os.getpid()} on {socket.gethostname()}, since {since},\n"
        with contextlib.suppress(OSError):
            self._file.truncate(0)
            self._file.write(who.encode())

    def _refuse(self, run: str, error: OSError) -> NoReturn:
        """Raise what says why there is no lock."""
        with self._file as file:
            file.seek(0)
            who = file.read().decode(errors="replace").strip() or "another process"
        if error.errno not in HELD:
            raise RelayError(
                f"{run}: its file {FILE} cannot be locked: {error.strerror}; choose a folder on "
                "another disk"
            ) from error
        raise RelayError(
            f"{run}: {who} trains in this folder (its file {FILE} is locked: "
            f"{error.strerror}); wait for its end, or choose another folder"
        ) from None

    @staticmethod
    def is_own(path: str) -> bool:
        """Whether this process holds the lock of a file; what a fork has copied is not its own."""
        try:
            lock = Lock._held.get(_number(path))
        except OSError:
            return False
        return lock is not None and lock._process == os.getpid()

    def release(self) -> None:
        """Let another process train in the folder."""
        stat = os.fstat(self._file.fileno())
        del self._held[stat.st_dev, stat.st_ino]
        self._file.close()


def _number(path: str) -> tuple[int, int]:
    """What tells a file from all others, under whatever name."""
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def is_held(run: str) -> bool:
    """Whether a process holds RUN/lock; asking takes no lock, and this process keeps its own."""
    path = os.path.join(run, FILE)
    if Lock.is_own(path):
        return True
    wanted = [0] * 5  # the whole file
    wanted[TYPE] = fcntl.F_WRLCK
    try:
        with open(path, "rb") as file:
            found = fcntl.fcntl(file, fcntl.F_GETLK, FLOCK.pack(*wanted))
    except FileNotFoundError:
        return False
    except OSError:  # nobody can tell
        return True
    return bool(FLOCK.unpack(found)[TYPE] != fcntl.F_UNLCK)


def state_of(run: str) -> str | None:
    """The state in a run's record, KILLED for RUNNING where no process trains; None without one."""
    held = is_held(run)  # first: a training records its end before it lets go
    record = identity.read(run)
    if record is None:
        return None
    return KILLED if record["state"] == identity.RUNNING and not held else str(record["state"])
