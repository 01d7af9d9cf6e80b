"""`relay train --gpu 0,1`: one process for each GPU of this machine.

Unlike torchrun it passes on every signal of a cluster, and ends with the status of its processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

from caffe_plain.cores import usable_cores

PASSED_ON = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
ASKED_AFTER_S, KILLED_AFTER_S = 2, 25  # when others are to end, after one has failed
LOOK_EVERY_S = 0.1
STOPPED = 128 + signal.SIGTERM  # the status of a process that has ended because it was asked to
LOST_ANOTHER = 1  # the status of a process that has lost another one, as of any error
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(words: Sequence[str], count: int) -> int:
    """Run `python WORDS` in `count` processes that train together; return the exit status.

    It is 0, or that of the process that failed, not of those that lost it; one that a signal has
    ended counts as 128 + the signal, as in a shell. Within 30 s after it all others have ended.
    """
    from torch.distributed import TCPStore  # here: most commands launch nothing

    # as torchrun's: whoever looks for a free port and uses it later may find it taken
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[subprocess.Popen] = []

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        for rank in range(count):
            processes.append(_start(words, rank, count, store.port))
        return _wait(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(words: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen:
    """Start a process with what torchrun would tell it; port: of the store where all meet."""
    told = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True,  # the port is that of a store
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or max(1, usable_cores() // count),
    }
    environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
    return subprocess.Popen([sys.executable, *words], env=environment, preexec_fn=_end_with_parent)


def _end_with_parent() -> None:
    """Have this process asked to end where the launcher is killed (Linux)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(processes: Sequence[subprocess.Popen]) -> int:
    """Wait until all processes have ended; once one has failed, not for long."""
    failed: dict[int, int] = {}  # by rank, in the order in which they were seen
    failed_at, asked = 0.0, False
    while any(process.poll() is None for process in processes):
        time.sleep(LOOK_EVERY_S)
        if not failed:
            failed_at = time.monotonic()
        elif time.monotonic() > failed_at + KILLED_AFTER_S:
            break
        elif time.monotonic() > failed_at + ASKED_AFTER_S and not asked:
            asked = True
            for process in processes:
                process.terminate()
        _add_failures(failed, processes, asked)
    _add_failures(failed, processes, asked)
    return _cause(failed.values())


def _add_failures(
    failed: dict[int, int], processes: Sequence[subprocess.Popen], asked: bool
) -> None:
    """Add the statuses of the processes that have failed since; say which a signal has ended.

    asked: whether they were asked to end, which those that did are not to blame for.
    """
    for rank, process in enumerate(processes):
        code = process.poll() or 0
        status = code if code >= 0 else 128 - code
        if status == 0 or rank in failed or (asked and status == STOPPED):
            continue
        failed[rank] = status
        if code < 0:
            name = signal.Signals(-code).name
            print(f"train: {name} has ended the process of rank {rank}", file=sys.stderr)


def _cause(statuses: Iterable[int]) -> int:
    """The status of the process that failed by itself, 0 if none has.

    Those that have lost it end with 1, sometimes before the launcher has seen its end.
    """
    return min(statuses, key=lambda status: status == LOST_ANOTHER, default=0)
