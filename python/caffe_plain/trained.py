"""A folder that a training left: the net for use, its newest weights, mean and class names."""

from __future__ import annotations

import os
from typing import NamedTuple

from .errors import DataError
from .snapshots import newest_weights, no_such_run


class Trained(NamedTuple):
    """The files in such a folder; mean and classes are "" where there are none."""

    deploy: str
    weights: str
    mean: str
    classes: str


def files_of(folder: str, weights: str | None = None) -> Trained:
    """The files of a folder; weights: to take instead of those of its newest whole snapshot.

    DataError where it has no deploy.prototxt or no weights.
    """
    if not os.path.isdir(folder):
        raise DataError(no_such_run(folder))
    deploy, mean, classes = (
        os.path.join(folder, name)
        for name in ("deploy.prototxt", "mean.binaryproto", "classes.txt")
    )
    if not os.path.isfile(deploy):
        raise DataError(
            f"{folder}: no deploy.prototxt there; expected a folder that a training of a net with "
            "a softmax loss made"
        )
    there = (path if os.path.isfile(path) else "" for path in (mean, classes))
    return Trained(deploy, weights or newest_weights(folder), *there)
