"""Snapshots as units: PREFIX_iter_N.sha256 lists every part with its checksum, and is written last.

Parts are the weights, the solver's state, the state of each loss with its own momentum, and where
the data go on. `sha256sum -c PREFIX_iter_N.sha256`, in the snapshot's folder, checks one by hand.
A snapshot without the list, as BVLC Caffe writes, is taken where somebody names it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable

from caffe_plain.files import checksum, write_atomically

from .errors import RelayError

LIST = ".sha256"
PART = re.compile(r"(\..+)?\.(caffemodel|solverstate|datastate)(\.h5)?", re.DOTALL)
WEIGHTS = re.compile(r"\.caffemodel(\.h5)?")
LINE = re.compile(rb"([0-9a-f]{64})  ([^/]+)")
AUTO = "auto"


def stem_of(state: str) -> str:
    """PREFIX_iter_N of a snapshot's .solverstate."""
    return state.rpartition(".solverstate")[0] or state


def seal(state: str) -> None:
    """Write the list of a snapshot's parts; `state`: its .solverstate."""
    stem = stem_of(state)
    lines = [f"{checksum(path)}  {os.path.basename(path)}\n" for path in _parts(stem)]
    write_atomically(stem + LIST, "".join(lines))


def is_sealed(state: str) -> bool:
    """Whether there is a list of a snapshot's parts."""
    return os.path.exists(stem_of(state) + LIST)


def check(state: str) -> None:
    """Raise RelayError where a part of a snapshot is missing, damaged or not of it."""
    stem = stem_of(state)
    found = {os.path.basename(path): path for path in _parts(stem)}
    for name, digest in _listed(stem).items():
        if name not in found:
            raise RelayError(f"{stem}: not whole: {name} is missing")
        if checksum(found.pop(name)) != digest:
            raise RelayError(f"{stem}: {name} is damaged: its checksum is not the one listed")
    for name in found:
        raise RelayError(f"{stem}: {name} does not belong to it: {stem + LIST} does not list it")


def newest(prefix: str, before: int | None = None) -> tuple[str | None, list[str]]:
    """(the .solverstate of the newest whole snapshot or None, what is wrong with newer ones).

    before: an iteration from which on snapshots are not looked at.
    """
    problems: list[str] = []
    for stem in reversed(_stems(prefix)):
        if before is not None and _iteration(stem) >= before:
            continue
        try:
            _check_sealed(stem)
            return _state(stem), problems
        except RelayError as error:
            problems.append(str(error))
    return None, problems


def newest_weights(run: str) -> tuple[str | None, list[str]]:
    """(the .caffemodel of the newest whole snapshot in a folder or None, what is wrong with newer
    ones).

    Where no snapshot has a list, as other programs leave them, the newest one is taken as it is.
    """
    stems = _stems_in(run)
    if not any(map(is_sealed, stems)):
        return next(filter(None, map(_weights, reversed(stems))), None), []
    problems: list[str] = []
    for stem in reversed(stems):
        try:
            _check_sealed(stem)
            return _weights(stem), problems
        except RelayError as error:
            problems.append(str(error))
    return None, problems


def prune(prefix: str, keep: int, best: int | None = None, every: int = 0) -> list[str]:
    """Delete all whole snapshots but some; return the stems of the deleted.

    keep: how many of the newest stay; best: the iteration of one more that does; every: those of
    its multiples do, too.
    """
    stems = [stem for stem in _stems(prefix) if os.path.exists(stem + LIST)]
    gone = [
        stem
        for stem in stems[: max(len(stems) - keep, 0)]
        if _iteration(stem) != best and not (every and _iteration(stem) % every == 0)
    ]
    for stem in gone:
        os.unlink(stem + LIST)  # first: what is left of a half deleted one is never taken
        for path in _parts(stem):
            os.unlink(path)
    return gone


def iterations(prefix: str) -> list[int]:
    """The iterations of which there is a snapshot, whole or not, ascending."""
    return [_iteration(stem) for stem in _stems(prefix)]


def _check_sealed(stem: str) -> None:
    if not is_sealed(stem):
        raise RelayError(f"{stem}: not whole: {stem + LIST}, which comes last, is missing")
    check(stem)


def _listed(stem: str) -> dict[str, str]:
    """{name of a part: its checksum}, from the list."""
    try:
        with open(stem + LIST, "rb") as file:
            *lines, end = file.read().split(b"\n")
    except OSError as error:
        raise RelayError(f"{stem + LIST}: {error.strerror}") from error
    matches = [LINE.fullmatch(line) for line in lines]
    if end or not all(matches):
        raise RelayError(f"{stem + LIST}: damaged: not the list that `sha256sum` would write")
    return {os.fsdecode(match[2]): match[1].decode() for match in matches if match}


def _state(stem: str) -> str:
    found = [
        path for path in _parts(stem) if re.fullmatch(r"\.solverstate(\.h5)?", path[len(stem) :])
    ]
    if not found:
        raise RelayError(f"{stem}: not whole: its .solverstate is missing")
    return found[0]


def _weights(stem: str) -> str | None:
    return next((path for path in _parts(stem) if WEIGHTS.fullmatch(path[len(stem) :])), None)


def _stems_in(run: str) -> list[str]:
    """PREFIX_iter_N of each snapshot in a folder, of any prefix, ascending by N."""
    paths = glob.iglob(os.path.join(glob.escape(run), "*_iter_*"))
    prefixes = {path.rpartition("_iter_")[0] for path in paths}
    return sorted((stem for prefix in prefixes for stem in _stems(prefix)), key=_iteration)


def _stems(prefix: str) -> list[str]:
    """PREFIX_iter_N of each N that has any file of a snapshot, ascending."""
    found = set()
    for path in glob.iglob(glob.escape(prefix) + "_iter_*"):
        match = re.match(r"_iter_(\d+)(?=\.)", path[len(prefix) :])
        if match and (PART.fullmatch(rest := path[len(prefix) + match.end() :]) or rest == LIST):
            found.add(path[: len(prefix) + match.end()])
    return sorted(found, key=_iteration)


def _iteration(stem: str) -> int:
    return int(stem.rpartition("_iter_")[2])


def _parts(stem: str) -> Iterable[str]:
    """The files of a snapshot, without the list."""
    paths = sorted(glob.iglob(glob.escape(stem) + ".*"))
    return [path for path in paths if PART.fullmatch(path[len(stem) :])]
