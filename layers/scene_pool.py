"""The worker processes of a SceneData layer, and the memory that they share with it.

A worker is started as a program of its own: it inherits no threads, no locks and no GPU, and does
not run the user's script again.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import relaybp
from caffe_plain.native import COMPILING

from .errors import SceneError
from .native import jpeg
from .scene_worker import RESULT, TASK, Slots

ITEMS = 16  # records a task: a few milliseconds, so that all workers share one batch
_LOOK_EVERY_S = 1.0  # whether a worker has died
# One thread each; and glibc keeps freed memory, because mapping it again for every image can cost
# half as much as decoding it.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    COMPILING: "0",  # the pool has tried
}
# Signals are the parent's: a terminal sends Ctrl-C to all processes, a scheduler whatever it sends.
# What a shell ignores stays ignored from the first moment of the program that it becomes.
_UNDISTURBED = ("/bin/sh", "-c", 'trap "" HUP INT TERM USR1 XCPU; exec "$0" "$@"')
_PATH = os.path.dirname(os.path.dirname(os.path.abspath(relaybp.__file__)))  # of the package


class Pool:
    """`workers` processes that fill the slots of a ring of batches.

    settings: what scene_worker.serve takes; where: the name of the layer, for messages.
    """

    def __init__(self, workers: int, batch_size: int, settings: dict[str, Any], where: str) -> None:
        jpeg.LIBRARY.load()  # compiled here if need be, once and not by every worker
        self.where, self._batch_size = where, batch_size
        layout = (settings["slots"], batch_size, settings["shape"])
        size = Slots(None, *layout).bytes
        handle = _shared_memory(size, where)
        self.memory = mmap.mmap(handle, size)
        self.slots = Slots(self.memory, *layout)
        task_end, self._tasks = os.pipe()
        self._results, result_end = os.pipe()
        ends = (task_end, result_end, handle)
        try:
            processes = [_start(ends, settings) for _ in range(workers)]
        finally:
            for end in ends:
                os.close(end)
        self._processes = processes
        self._open = dict.fromkeys(range(settings["slots"]), 0)  # items under way
        self._problems = {}  # slot -> why it cannot be filled
        self._buffer = b""
        self.left_out = 0  # damaged records that were replaced
        self.close = weakref.finalize(self, _close, self._tasks, self._results, processes)

    def submit(self, slot: int) -> None:
        """Queue a slot to be filled; its records and draws must be set."""
        self._open[slot] = self._batch_size
        with contextlib.suppress(BrokenPipeError):  # every worker is dead: `wait` says so
            for first in range(0, self._batch_size, ITEMS):
                last = min(first + ITEMS, self._batch_size)
                os.write(self._tasks, TASK.pack(slot, first, last))

    def wait(self, slot: int) -> None:
        """Return when a slot is filled; SceneError says which record cannot be read, and why."""
        while self._open[slot]:
            if slot in self._problems:
                raise SceneError(self._problems[slot])
            ready, _, _ = select.select([self._results], [], [], _LOOK_EVERY_S)
            data = os.read(self._results, 1 << 16) if ready else b""
            if data:
                self._take(data)
            else:
                self._look_for_dead()

    def _take(self, data: bytes) -> None:
        """Take in the workers' results."""
        self._buffer += data
        while len(self._buffer) >= RESULT.size:
            size, slot, done, left_out = RESULT.unpack_from(self._buffer)
            end = RESULT.size + size
            if len(self._buffer) < end:
                return
            text = self._buffer[RESULT.size : end].decode("utf-8", "replace")
            self._buffer = self._buffer[end:]
            if done < 0:
                self._problems[slot] = text
                continue
            self._open[slot] -= done
            if left_out:
                self.left_out += left_out
                print(f"{self.where}: left out, {self.left_out} by now: {text}", file=sys.stderr)

    def _look_for_dead(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                raise SceneError(
                    f"a worker process died (exit status {process.returncode}); most often memory "
                    "ran out: use fewer workers, a smaller batch_size or less ahead"
                )


def _start(ends: Sequence[int], settings: dict[str, Any]) -> subprocess.Popen:
    if not sys.executable:
        raise SceneError("no Python to start the worker processes with: sys.executable is empty")
    environment = dict(os.environ, **_ENVIRONMENT)
    path = [_PATH, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return subprocess.Popen(
        [
            *_UNDISTURBED,
            sys.executable,
            "-m",
            "relaybp.layers.scene_worker",
            *map(str, ends),
            json.dumps(settings),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=ends,
        env=environment,
    )


def _shared_memory(size: int, where: str) -> int:
    """A handle of anonymous memory of `size` bytes, which cannot be left behind."""
    try:
        if hasattr(os, "memfd_create"):
            handle = os.memfd_create("scene_data")
        else:
            with tempfile.TemporaryFile() as file:
                handle = os.dup(file.fileno())
        os.ftruncate(handle, size)
    except OSError as error:
        raise SceneError(
            f"{where}: cannot get {size} bytes of shared memory ({error}); use a "
            "smaller batch_size or less ahead"
        ) from error
    return handle


def _close(tasks: int, results: int, processes: list[subprocess.Popen]) -> None:
    """End the workers, which keep nothing."""
    os.close(tasks)
    os.close(results)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
