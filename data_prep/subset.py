"""A DATA folder with a part of another one's records: long-tailed, or with a held-out val.

    python data_prep/subset.py --long_tail=50 DATA OUT
    python data_prep/subset.py --hold_out=0.1 DATA OUT

--long_tail=RATIO: class k of K keeps RATIO ** (-k / (K - 1)) of its training images, the first ones
in the order of the keys; so the first class keeps all and the last one a RATIO-th (the profile of
Cui et al., "Class-Balanced Loss", CVPR 2019). The validation images stay.

--hold_out=SHARE: of each class the last SHARE of the training images, in the order of the keys,
become the validation images, to choose settings by; those of DATA are left out.

The mean is that of the training images that are left.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np

from caffe_plain.class_names import read_class_names, write_class_names
from caffe_plain.database import open_database
from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.datum_db import DatumDB
from relaybp.data_prep.errors import PrepError, run
from relaybp.layers.record_index import read_index

TRAIN, VAL = "train_lmdb", "val_lmdb"


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("data", metavar="DATA", help="folder with train_lmdb, val_lmdb, classes.txt")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("long_tail", 0.0, "the first class keeps RATIO times the share of the last")
    flags.flag("hold_out", 0.0, "share of the training images that become the validation images")
    return flags


def long_tail(labels: np.ndarray, classes: int, ratio: float) -> np.ndarray:
    """Which records stay: (N,) bool for labels (N,), in the order of the keys."""
    rank = ranks(labels, classes)
    shares = ratio ** -np.linspace(0, 1, classes)
    kept = np.rint(np.bincount(labels, minlength=classes) * shares)
    return rank < kept[labels]


def held_out(labels: np.ndarray, classes: int, share: float) -> np.ndarray:
    """Which records are held out: (N,) bool for labels (N,), in the order of the keys."""
    counts = np.bincount(labels, minlength=classes)
    return ranks(labels, classes) >= (counts - np.rint(counts * share))[labels]


def ranks(labels: np.ndarray, classes: int) -> np.ndarray:
    """How many records of its own class come before each record."""
    found = np.empty(len(labels), int)
    for label in range(classes):
        own = labels == label
        found[own] = np.arange(own.sum())
    return found


def subset(
    data: str | Path, out: str | Path, ratio: float = 0.0, share: float = 0.0
) -> dict[str, list[int]]:
    """Make the folder as the command does; returns {split: images of each class}."""
    if (ratio > 0) == (share > 0):
        raise PrepError("expected one of --long_tail=RATIO and --hold_out=SHARE")
    if ratio and ratio < 1 or share >= 1:
        raise PrepError("expected a RATIO of 1 or more, a SHARE between 0 and 1")
    data, names = Path(data), read_class_names(Path(data) / "classes.txt")
    labels = read_index(data / TRAIN).labels
    wrong = labels[(labels < 0) | (labels >= len(names))]
    if wrong.size:
        raise PrepError(f"{data / TRAIN}: label {wrong[0]}, but classes.txt has {len(names)} names")
    if ratio:
        kept, val, chosen = long_tail(labels, len(names), ratio), VAL, None
        what = {"long_tail": ratio}
    else:
        chosen = held_out(labels, len(names), share)
        kept, val, what = ~chosen, TRAIN, {"hold_out": share}
    with complete_folder(out) as partial:
        write_class_names(partial / "classes.txt", names)
        counts = {
            "train": _copy(data / TRAIN, partial / TRAIN, kept, names, what),
            "val": _copy(data / val, partial / VAL, chosen, names, what),
        }
        write_mean(partial / "mean.binaryproto", mean_of(partial / TRAIN)[0])
    return counts


def _copy(
    source: Path, folder: Path, kept: np.ndarray | None, names: list[str], what: dict[str, float]
) -> list[int]:
    """Copy the records of a database that are kept (None: all); returns those of each class."""
    labels, settings = read_index(source).labels, {**_settings(source), **what}
    kept = np.ones(len(labels), bool) if kept is None else kept
    with (
        closing(open_database(source)) as environment,
        environment.begin() as transaction,
        DatumDB(folder, settings) as out,
    ):
        for (key, record), keeps in zip(transaction.cursor(), kept.tolist(), strict=True):
            if keeps:
                out.put(bytes(key), bytes(record))
        counts = np.bincount(labels[kept], minlength=len(names)).tolist()
        out.finish(counts, names)
    return counts


def _settings(source: Path) -> dict[str, object]:
    """How the records of a database were made, as far as is known."""
    path = source / "settings.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    counts = subset(options.data, options.out, options.long_tail, options.hold_out)
    for split, found in counts.items():
        print(f"{options.out}: {sum(found)} {split} images, {' '.join(map(str, found))} of a class")


if __name__ == "__main__":
    run(main)
