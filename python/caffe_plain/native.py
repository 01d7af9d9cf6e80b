"""Libraries of compiled code, which are made from their sources at their first use.

A library lies beside its sources, or in the user's cache folder if that place cannot be written
to. Its name states what it was made from, so that a changed source or another machine gets its own.
Code is compiled for speed alone: without a compiler something else gives the same results.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Callable

from .files import user_cache
from .glog import say

COMPILING = "CAFFE_COMPILE"  # the environment variable that forbids compiling if it is 0
Compile = Callable[[Sequence[Path], Path], None]


class NotCompiled(Exception):
    """Why there is no library."""


class NativeLibrary:
    """A library of compiled code, and whether it is in force.

    name: what its file's name begins with. sources: its files, in one folder, whose headers belong
    to it too. compile(sources, path) writes the library to `path`, or raises NotCompiled or
    OSError. instead: what happens without it, for messages. target: on what else it depends.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Path],
        compile: Compile,
        instead: str,
        target: str = platform.machine(),
    ) -> None:
        self.name, self.sources, self.instead = name, sources, instead
        self._compile, self._target = compile, target

    def load(self) -> ctypes.CDLL | None:
        """The library, compiled first if need be; None if it cannot be had: see `state`."""
        return self._outcome[0]

    def state(self) -> str:
        """What is in force, after an attempt to load it: its file, or why there is none."""
        return self._outcome[1]

    @property
    def path(self) -> Path:
        """Where the library of these sources and this target is, or will be."""
        folder = self.sources[0].parent
        digest = hashlib.sha256(self._target.encode())
        for source in [*sorted(folder.glob("*.h")), *self.sources]:
            digest.update(source.read_bytes())
        name = f"{self.name}-{digest.hexdigest()[:16]}.so"
        if (folder / name).exists() or os.access(folder, os.W_OK):
            return folder / name
        return Path(user_cache(), "caffe", name)

    @cached_property
    def _outcome(self) -> tuple[ctypes.CDLL | None, str]:
        """The library and its state. Found, and a change or failure logged, once a process."""
        start = time.monotonic()
        try:
            path = self.path
            compiled = not path.exists() and self._make(path)
            loaded = ctypes.CDLL(str(path))
        except (NotCompiled, OSError) as error:
            state = f"none ({error}): {self.instead}"
            say("native", f"{self.name}: {state}")
            return None, state
        if compiled:
            say("native", f"{self.name}: compiled {path} in {time.monotonic() - start:.0f} s")
        return loaded, path.name

    def _make(self, path: Path) -> bool:
        """Compile the library, one process at a time; False if another one has meanwhile."""
        if os.environ.get(COMPILING) == "0":
            raise NotCompiled(f"not compiled, and {COMPILING} is 0")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.parent / f".{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed
            if path.exists():
                return False
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder, path.name)
                self._compile(self.sources, made)
                for old in path.parent.glob(f"{self.name}-*.so"):
                    old.unlink()
                made.replace(path)
        return True


def run_compiler(command: Sequence[str]) -> None:
    """Run a compiler or linker; NotCompiled says that it is missing, or what it found wrong."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotCompiled(f"no compiler: {command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        found = re.search(r"^.*:\d+: (fatal )?error: .*$", error.stderr, re.MULTILINE)
        line = found[0] if found else error.stderr.strip().partition("\n")[0]
        raise NotCompiled(f"{command[0]} failed: {line or error.returncode}") from None
