"""Snapshots as units: PREFIX_iter_N.sha256 lists every part with its checksum, and is written last.

Parts are the weights, the solver's state, the state of each loss with its own momentum, and where
the data go on. `sha256sum -c PREFIX_iter_N.sha256`, in the snapshot's folder, checks one by hand.
A snapshot is called by its stem, PREFIX_iter_N.
"""

from __future__ import annotations

import glob
import os
import re
import sys

from .errors import DataError
from .files import checksum

LIST = ".sha256"
RECORD = "run.json"  # in a run's folder: what the run is
_PART = re.compile(r"(\..+)?\.(caffemodel|solverstate|datastate)(\.h5)?", re.DOTALL)
_LINE = re.compile(rb"([0-9a-f]{64})  ([^/]+)")


def newest_weights(folder: str) -> str:
    """The .caffemodel of the newest whole snapshot in a folder; DataError where there is none.

    Names the newest run where the folder itself is missing. Says on stderr which newer ones are not
    whole. Where no snapshot has a list, as BVLC Caffe leaves them, the newest one is taken as it
    is.
    """
    if not os.path.isdir(folder):
        raise DataError(no_such_run(folder))
    found = _stems_in(folder)
    have_lists = any(os.path.exists(stem + LIST) for stem in found)
    problems = []
    for stem in reversed(found):
        try:
            if have_lists:
                check(stem)
        except DataError as error:
            problems.append(str(error))
            continue
        weights = part(stem, "caffemodel")
        if weights:
            for problem in problems:
                print(f"Passed over: {problem}", file=sys.stderr)
            return weights
    none = f"{folder}: no snapshot (*_iter_N.caffemodel) there; a training leaves one at its end"
    raise DataError("\n".join([none, *problems]))


def no_such_run(folder: str) -> str:
    """What to say of a run's folder that does not exist: which one is the newest beside it."""
    beside = os.path.join(glob.escape(os.path.dirname(folder)), "*", RECORD)
    found = glob.glob(beside) or glob.glob(os.path.join("runs", "*", RECORD))
    newest = os.path.dirname(max(found, key=os.path.getmtime)) if found else ""
    which = f"the newest run is {newest}" if newest else "expected one that a training made"
    return f"{folder}: no such folder; {which}"


def check(stem: str) -> None:
    """Raise DataError where a snapshot has no list, or a part is missing, damaged or not of it."""
    if not os.path.exists(stem + LIST):
        raise DataError(f"{stem}: not whole: {stem + LIST}, which comes last, is missing")
    found = {os.path.basename(path): path for path in parts(stem)}
    for name, digest in _listed(stem).items():
        if name not in found:
            raise DataError(f"{stem}: not whole: {name} is missing")
        if checksum(found.pop(name)) != digest:
            raise DataError(f"{stem}: {name} is damaged: its checksum is not the one listed")
    for name in found:
        raise DataError(f"{stem}: {name} does not belong to it: {stem + LIST} does not list it")


def stems(prefix: str) -> list[str]:
    """PREFIX_iter_N of each N that has any file of a snapshot, ascending."""
    found = set()
    for path in glob.iglob(glob.escape(prefix) + "_iter_*"):
        match = re.match(r"_iter_(\d+)(?=\.)", path[len(prefix) :])
        if match and (_PART.fullmatch(rest := path[len(prefix) + match.end() :]) or rest == LIST):
            found.add(path[: len(prefix) + match.end()])
    return sorted(found, key=iteration)


def iteration(stem: str) -> int:
    """The iteration at which a snapshot was taken."""
    return int(stem.rpartition("_iter_")[2])


def sealed(prefix: str) -> list[str]:
    """The stems of the snapshots that have a list, ascending by iteration."""
    return [stem for stem in stems(prefix) if os.path.exists(stem + LIST)]


def parts(stem: str) -> list[str]:
    """The files of a snapshot, without the list, by name."""
    paths = sorted(glob.iglob(glob.escape(stem) + ".*"))
    return [path for path in paths if _PART.fullmatch(path[len(stem) :])]


def part(stem: str, kind: str) -> str | None:
    """The solver's own part of a snapshot, or None; kind: caffemodel or solverstate."""
    names = (f"{stem}.{kind}", f"{stem}.{kind}.h5")
    return next((path for path in parts(stem) if path in names), None)


def _stems_in(folder: str) -> list[str]:
    """The snapshots in a folder, of any prefix, ascending by iteration."""
    paths = glob.iglob(os.path.join(glob.escape(folder), "*_iter_*"))
    prefixes = {path.rpartition("_iter_")[0] for path in paths}
    return sorted((stem for prefix in prefixes for stem in stems(prefix)), key=iteration)


def _listed(stem: str) -> dict[str, str]:
    """{name of a part: its checksum}, from the list."""
    try:
        with open(stem + LIST, "rb") as file:
            *lines, end = file.read().split(b"\n")
    except OSError as error:
        raise DataError(f"{stem + LIST}: {error.strerror}") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if end or not all(matches):
        raise DataError(f"{stem + LIST}: damaged: not the list that `sha256sum` would write")
    return {os.fsdecode(match[2]): match[1].decode() for match in matches if match}
