"""A folder that a training left: the net for use, its newest weights, mean and class names."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from .errors import DataError
from .snapshots import RECORD, newest_weights, no_such_run, sealed


class Trained(NamedTuple):
    """The files in such a folder; mean and classes are "" where there are none.

    rgb: the net was trained on channels in that order; else BGR, as OpenCV reads files.
    """

    deploy: str
    weights: str
    mean: str
    classes: str
    rgb: bool = False


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
    mean, classes = (path if os.path.isfile(path) else "" for path in (mean, classes))
    rgb = _trained_on_rgb(folder)
    return Trained(deploy, weights or newest_weights(folder), mean, classes, rgb)


def _trained_on_rgb(folder: str) -> bool:
    """What the run's record says of its images; False where there is none, or it does not say."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            return bool(json.load(file)["images"]["rgb"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_no_run(prefix: str) -> None:
    """Raise DataError where snapshots of that prefix would go among those of a recorded run."""
    record = os.path.join(os.path.dirname(prefix), RECORD)
    if not os.path.exists(record) and not sealed(prefix):
        return
    raise DataError(
        f"snapshot_prefix {prefix}: there lie the snapshots of a run with a record and checksums, "
        "which others of that name would spoil; choose another place "
        "(-set snapshot_prefix=FOLDER/NAME)"
    )
