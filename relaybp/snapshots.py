"""The snapshots of a training: sealed as units, the newest to go on from, the old deleted.

What a snapshot consists of, and when it is whole: `caffe_plain.snapshots`. One without the list of
its parts, as BVLC Caffe writes, is taken where somebody names it.
"""

from __future__ import annotations

import os

from caffe_plain.errors import DataError
from caffe_plain.files import checksum, write_atomically
from caffe_plain.snapshots import LIST, check, iteration, part, parts, sealed, stems

AUTO = "auto"


def stem_of(state: str) -> str:
    """PREFIX_iter_N of a snapshot's .solverstate."""
    return state.rpartition(".solverstate")[0] or state


def seal(state: str) -> None:
    """Write the list of a snapshot's parts; `state`: its .solverstate."""
    stem = stem_of(state)
    lines = [f"{checksum(path)}  {os.path.basename(path)}\n" for path in parts(stem)]
    write_atomically(stem + LIST, "".join(lines))


def check_sealed(state: str) -> None:
    """Raise DataError where a part of a snapshot that has a list is missing or damaged."""
    if os.path.exists(stem_of(state) + LIST):
        check(stem_of(state))


def newest(prefix: str, before: int | None = None) -> tuple[str | None, list[str]]:
    """(the .solverstate of the newest whole snapshot or None, what is wrong with newer ones).

    before: an iteration from which on snapshots are not looked at.
    """
    problems: list[str] = []
    for stem in reversed(stems(prefix)):
        if before is not None and iteration(stem) >= before:
            continue
        try:
            check(stem)
            return _state(stem), problems
        except DataError as error:
            problems.append(str(error))
    return None, problems


def prune(prefix: str, keep: int, best: int | None = None, every: int = 0) -> list[str]:
    """Delete all whole snapshots but some; return the stems of the deleted.

    keep: how many of the newest stay; best: the iteration of one more that does; every: those of
    its multiples do, too.
    """
    whole = sealed(prefix)
    gone = [
        stem
        for stem in whole[: max(len(whole) - keep, 0)]
        if iteration(stem) != best and not (every and iteration(stem) % every == 0)
    ]
    for stem in gone:
        os.unlink(stem + LIST)  # first: what is left of a half deleted one is never taken
        for path in parts(stem):
            os.unlink(path)
    return gone


def iterations(prefix: str) -> list[int]:
    """The iterations of which there is a snapshot, whole or not, ascending."""
    return [iteration(stem) for stem in stems(prefix)]


def _state(stem: str) -> str:
    found = part(stem, "solverstate")
    if found is None:
        raise DataError(f"{stem}: not whole: its .solverstate is missing")
    return found
