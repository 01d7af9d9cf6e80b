"""A folder that a training left: the net for use, its newest weights, mean and class names."""

from __future__ import annotations

import glob
import os
import re
from typing import NamedTuple

from .errors import DataError


class Trained(NamedTuple):
    """The files in such a folder; mean and classes are "" where there are none."""

    deploy: str
    weights: str
    mean: str
    classes: str


def files_of(folder: str) -> Trained:
    """The files of a folder; DataError where it has no deploy.prototxt or no weights."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder; expected one that a training made")
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
    return Trained(deploy, newest_weights(folder), *there)


def newest_weights(folder: str) -> str:
    """The weights of the highest iteration in a folder; DataError where there are none."""
    names = os.path.join(glob.escape(folder), "*_iter_*.caffemodel")
    found = glob.glob(names) + glob.glob(names + ".h5")
    found = [path for path in found if not re.search(r"\.training\.caffemodel(\.h5)?$", path)]
    if not found:
        raise DataError(f"{folder}: no snapshot (*_iter_N.caffemodel) there; give --weights")
    return max(found, key=lambda path: int(re.findall(r"_iter_(\d+)", path)[-1]))
