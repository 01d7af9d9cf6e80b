"""Choice: which of several ways to do an operation is the fastest, measured on the machine at hand.

The first time that an operation comes with certain shapes, its ways take turns and the fastest is
remembered: in the process, and in a file for this processor and these versions. What was chosen is
part of a run's state, so that a resumed run has the same bits. With `set_measured(False)` the first
way is always taken: results then have the same bits on every machine of one kind.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from caffe_plain.files import user_cache, write_atomically
from caffe_plain.version import VERSION

_TURNS = 5
_LONG_S = 0.05  # an operation that takes longer takes fewer turns

_measured = True
_chosen: dict[str, str] = {}  # {operation, details and threads: name of the way}


def set_measured(wanted: bool) -> None:
    """Whether ways are measured; otherwise the first is taken."""
    global _measured
    _measured = wanted


def is_measured() -> bool:
    """Whether ways are measured."""
    return _measured


def fastest(operation: str, details: object, ways: Mapping[str, Callable[[], object]]) -> str:
    """The name of the fastest of the ways; the first if there is one only, or none are measured.

    details: what makes a difference: shapes, dtypes, strides. The ways are called, so they must
    compute into memory of their own.
    """
    names = list(ways)
    if len(names) == 1 or not _measured:
        return names[0]
    key = f"{operation} {details} threads {torch.get_num_threads()}"
    known = _known()
    if known.get(key) not in ways:
        known[key] = _measure(ways)
    _chosen[key] = known[key]
    return known[key]


def state() -> dict[str, str]:
    """What was chosen in this process."""
    return dict(_chosen)


def restore(state: Mapping[str, str]) -> None:
    """Choose again what `state` says; what it does not name is measured as usual."""
    _known().update(state)


def _measure(ways):
    least = dict.fromkeys(ways, float("inf"))
    for way in ways.values():  # compiled, packed, in the cache
        way()
    for turn in range(_TURNS):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            least[name] = min(least[name], time.perf_counter() - begun)
        if turn and min(least.values()) > _LONG_S:
            break
    return min(least, key=least.__getitem__)


# ---- the file ------------------------------------------------------------------------------------


@functools.cache
def _known() -> dict[str, str]:
    """What is known of this machine, from earlier processes too."""
    atexit.register(_save)
    return _read()


def _read():
    try:
        found = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save():
    """Add what this process has chosen to the file; a cache that cannot be written is no error."""
    if _chosen.items() <= (before := _read()).items():
        return
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(_path()), json.dumps({**before, **_chosen}, indent=0).encode())
    except OSError:
        pass


def _path() -> Path:
    machine = f"{_processor()} {os.cpu_count()} {torch.__version__} {VERSION}"
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    return Path(user_cache(), "caffe", f"choices-{name}.json")


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.machine())
