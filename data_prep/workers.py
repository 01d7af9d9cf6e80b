"""Work in several processes (or threads), results in order, a bounded number of them waiting."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Callable, TypeVar

from relaybp.data_prep.errors import PrepError

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK = 16  # items a task: its trip to a worker costs little beside sixteen images


def process_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers` processes.

    The processes are spawned, so `function` must be importable, and end with this process even
    when it is killed. They do not run the caller's script again, so it needs no __main__ guard.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    executor = _Executor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield from _bounded_map(executor, function, items, workers)
    except BrokenProcessPool as error:
        raise PrepError(
            "a worker process died; most often memory ran out: use fewer --workers"
        ) from error


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """As `process_map`, with threads: for work that is mostly OpenCV's, which releases the GIL."""
    yield from _bounded_map(ThreadPoolExecutor(workers), function, items, workers)


class _Executor(ProcessPoolExecutor):
    """Starts its processes, which it does when work is submitted, without the user's script.

    They leave Ctrl-C to the parent from their first moment on: a blocked signal is inherited.
    """

    def submit(self, *args: Any) -> Future:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # what a spawned process would run first
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return super().submit(*args)
        finally:
            sys.modules["__main__"] = script
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _bounded_map(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    chunks = iter(partial(_chunk, iter(items)), [])
    task = partial(_call_each, function)
    with executor:
        try:
            pending = deque(executor.submit(task, chunk) for chunk in islice(chunks, workers + 2))
            while pending:
                results = pending.popleft().result()
                pending.extend(executor.submit(task, chunk) for chunk in islice(chunks, 1))
                yield from results
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def _chunk(items: Iterator) -> list:
    return list(islice(items, CHUNK))


def _call_each(function: Callable, items: list) -> list:
    return [function(item) for item in items]


def _start_worker() -> None:
    """Use one core, and end when the parent ends."""
    import cv2  # here, because not every worker needs images

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
