"""Choice: which of several ways to do an operation is the fastest, measured on the machine at hand.

The first time that an operation comes with certain shapes, its ways take turns and the fastest is
remembered: in the process, and in a file for this processor, these versions and kernels. What was
chosen is part of a run's state, so that a resumed run has the same bits. With `set_measured(False)`
the first way is always taken: results then have the same bits on every machine of one kind.

    convolution = Operation("convolution")

    @convolution.way("product", lambda x, weight: weight.shape[2:] == (1, 1))
    def _product(x, weight): ...
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from caffe_plain.files import user_cache, write_atomically
from caffe_plain.version import VERSION

from .. import device
from . import native

_TURNS = 9
_LONG_S = 0.05  # an operation that takes longer takes fewer turns
_GAIN = 1.03  # that another way must bring: what is less is noise, and would change from run to run
_NEAR_BYTES = 4 << 20  # for each thread: more than the caches of its own hold

Made = TypeVar("Made")

_measured = True
_chosen: dict[str, str] = {}  # {operation, details and place: name of the way}
_found: dict[str, str] = {}  # those of them that were measured in this process
_taken: dict[tuple, _Taken] = {}  # the same, for operations that look often
_noted: list[tuple[str, str]] | None = None


def set_measured(wanted: bool) -> None:
    """Whether ways are measured; otherwise the first is taken."""
    global _measured
    _measured = wanted
    _taken.clear()


def is_measured() -> bool:
    """Whether ways are measured."""
    return _measured


class Operation:
    """An operation with several ways: functions of the same arguments, the first for all of them.

    Called, it takes the fastest. What makes a difference: dtypes and shapes of tensors, and all
    other arguments, which must be hashable.
    """

    def __init__(self, name: str):
        self.name = name
        self._ways: dict[str, tuple[Callable[..., Any], Callable[..., bool]]] = {}

    def way(
        self, name: str, takes: Callable[..., bool] = lambda *_: True
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A decorator: one more way; takes(*arguments): whether it can do with these."""

        def add(run):
            self._ways[name] = run, takes
            return run

        return add

    def __call__(self, *arguments: Any) -> Any:
        """What the fastest way makes of the arguments."""
        details = tuple(
            [(each.dtype, each.shape) if type(each) is Tensor else each for each in arguments]
        )
        key = (self.name, torch.get_num_threads(), device.ordinal, details)
        taken = _taken.get(key)
        if taken is None:
            taken = _taken[key] = self._take(details, arguments)
        if _noted is not None and taken.is_chosen:
            _noted.append((self.name, taken.name))
        return taken.run(*arguments)

    def _take(self, details, arguments):
        ways = {name: run for name, (run, takes) in self._ways.items() if takes(*arguments)}
        calls = {name: partial(run, *arguments) for name, run in ways.items()}
        name = fastest(self.name, details, calls)
        return _Taken(name, ways[name], len(ways) > 1)


class _Taken(NamedTuple):
    """A way of an operation, and whether there were others."""

    name: str
    run: Callable[..., Any]
    is_chosen: bool


@contextmanager
def noting() -> Iterator[list[tuple[str, str]]]:
    """A list of the (operation, way) that are run within, where there were several ways."""
    global _noted
    before, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = before


def fastest(
    operation: str,
    details: object,
    ways: Mapping[str, Callable[[], Any]],
    measure: Callable[[Mapping[str, Callable[[], Any]]], str] | None = None,
) -> str:
    """The name of the fastest of the ways; the first if there is one only, or none are measured.

    details: what makes a difference: shapes, dtypes, strides. The ways are called, so they must
    compute into memory of their own. measure: finds the fastest instead.
    """
    names = list(ways)
    if len(names) == 1 or not _measured:
        return names[0]
    key = f"{operation} {details} {_place()}"
    known = _known()
    if known.get(key) not in ways:
        if device.is_recording():
            return names[0]
        known[key] = _found[key] = (measure or _measure)(ways)
    _chosen[key] = known[key]
    return known[key]


def make_fastest(
    operation: str,
    details: object,
    makers: Mapping[str, Callable[[], Made]],
    call: Callable[[Made], Callable[[], object]],
    gain: float = _GAIN,
) -> Made:
    """What the maker of the fastest way makes, such as packed weights; others' is not kept.

    call: from what is made, to what is measured. Two at a time are there while they are measured.
    gain: what another way must bring; 1 where noise may decide, as all compute alike.
    """
    kept = []

    def by_duels(makers):
        (best, make), *others = makers.items()
        kept.append(make())
        for name, make in others:
            kept.append(make())
            duel = {best: call(kept[0]), name: call(kept[1])}
            loser = 1 if _measure(duel, gain) == best else 0
            best = best if loser else name
            del kept[loser], duel
        return best

    name = fastest(operation, details, makers, by_duels)
    return kept[0] if kept else makers[name]()


def state() -> dict[str, str]:
    """What was chosen in this process."""
    return dict(_chosen)


def restore(state: Mapping[str, str]) -> None:
    """Choose again what `state` says; what it does not name is measured as usual."""
    _known().update(state)
    _taken.clear()


def _place():
    if device.ordinal < 0:
        return f"threads {torch.get_num_threads()}"
    return f"{torch.cuda.get_device_name(device.ordinal)} {device.precision()}"


def _measure(ways, gain=_GAIN):
    least, timed = dict.fromkeys(ways, float("inf")), _timer()
    with device.searching(True):
        for way in ways.values():  # compiled, packed
            way()
        for turn in range(_TURNS):
            for name, way in ways.items():
                least[name] = min(least[name], timed(way))
            if turn and min(least.values()) > _LONG_S:
                break
    first, best = next(iter(ways)), min(least, key=least.__getitem__)
    return best if least[first] > gain * least[best] else first


def _timer():
    """A function that gives the seconds that a way takes.

    On a CPU nothing lies in the caches before, as in a net, where other layers ran since a layer's
    weights were last used.
    """
    if device.ordinal >= 0:
        return _timed_on_gpu
    elsewhere = torch.zeros(_NEAR_BYTES // 4 * torch.get_num_threads())

    def timed(way):
        elsewhere.add_(1)
        begun = time.perf_counter()
        way()
        return time.perf_counter() - begun

    return timed


def _timed_on_gpu(way):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    way()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


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
    """Add what was measured here to the file; a cache that cannot be written is no error."""
    if _found.keys() <= (before := _read()).keys():
        return
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(_path()), json.dumps({**_found, **before}, indent=0).encode())
    except OSError:
        pass


def _path() -> Path:
    kernels = native.LIBRARY.state()  # other kernels have other speeds
    machine = f"{_processor()} {os.cpu_count()} {torch.__version__} {VERSION} {kernels}"
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    return Path(user_cache(), "caffe", f"choices-{name}.json")


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.machine())
