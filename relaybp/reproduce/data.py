"""The data sets that tables need: named by variables, checked before anything is trained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from caffe_plain.database import count_records

from .. import engines, identity
from ..data_prep.subset import subset
from ..errors import RelayError
from ..evaluation.preparation import first_shape
from ..image_data import make_by
from ..run_folder import count_classes

SPLITS = ("train_lmdb", "val_lmdb")
DRAWN = "drawn"
DRAWN_TITLE = "drawn scenes, nothing that a paper reports"
DRAWN_SIZE = ("--train=240", "--val=40", "--size=40")


class Edition(NamedTuple):
    """A published set. train: the possible numbers of training images; val: of the others."""

    title: str
    train: tuple[int, ...]
    val: int


@dataclass(frozen=True)
class Kind:
    """What a variable may name.

    editions: by their number of classes; recipe: makes the folder; words: what `relay train` is
    told of it, for the crops that are usual with it; shape: of all records, where the set has one.
    """

    variable: str
    editions: Mapping[int, Edition]
    recipe: str
    words: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None


TINY = (3, 32, 32)
PADDED = ("--feed", "scene", "--scene", "pad=4", "--scene", "shuffle=true")
KINDS = {
    "imagenet": Kind(
        "IMAGENET", {1000: Edition("ImageNet 2012", (1_281_167,), 50_000)}, "ImageNet"
    ),
    "places2": Kind(
        "PLACES2",
        {
            401: Edition("Places2 challenge", (8_097_967,), 20_500),
            365: Edition("Places365-Standard", (1_803_460,), 36_500),
        },
        "Places",
    ),
    "cifar10": Kind("CIFAR10", {10: Edition("CIFAR-10", (50_000,), 10_000)}, "CIFAR", PADDED, TINY),
    "cifar100": Kind(
        "CIFAR100", {100: Edition("CIFAR-100", (50_000,), 10_000)}, "CIFAR", PADDED, TINY
    ),
    "svhn": Kind("SVHN", {10: Edition("SVHN", (73_257, 604_388), 26_032)}, "SVHN", shape=TINY),
}
TAILS = {"cifar10-tail7.5": 7.5, "cifar10-tail50": 50.0}  # CIFAR-10, long-tailed so many to one
VARIABLES = tuple(kind.variable for kind in KINDS.values())


@dataclass(frozen=True)
class DataSet:
    """A data set at hand.

    path: its folder, absolute; title: what it really is; train: records; named: the folder that its
    variable names, of a long-tailed set the whole one; "" of drawn scenes.
    """

    path: str
    title: str
    train: int
    named: str = ""

    def __str__(self) -> str:
        """The title, and the folder that a variable names."""
        return f"{self.title} ({self.named})" if self.named else self.title


def kind_of(key: str) -> Kind | None:
    """The Kind of a set, for one of TAILS that of the whole; None for drawn scenes."""
    return KINDS.get(key.partition("-")[0])


def variables(keys: list[str]) -> list[str]:
    """The variables that name sets, each once."""
    kinds = [kind_of(key) for key in keys]
    return list(dict.fromkeys(kind.variable for kind in kinds if kind))


def find(keys: list[str], environment: Mapping[str, str], out: str) -> dict[str, DataSet]:
    """{key: its DataSet} of those keys whose variable is set; out: where scenes are drawn and
    long-tailed sets are made.

    Relative paths start at the current folder. Raises RelayError where a folder is missing, where
    it holds another data set than its variable says, and where no variable is set at all.
    """
    if not keys:
        return {}
    if keys == [DRAWN]:
        return {DRAWN: drawn(os.path.join(out, "scenes"))}
    found = {}
    for key in keys:
        kind = kind_of(key)
        if kind and environment.get(kind.variable):
            whole = check(kind, environment[kind.variable])
            found[key] = long_tailed(key, whole, out) if key in TAILS else whole
    if not found:
        needed = " and ".join(f"{variable}=" for variable in variables(keys))
        raise RelayError(
            f"no data: name it with {needed} (folders that data_prep/README.md tells how to make), "
            "or draw scenes with SCALE=smoke"
        )
    return found


def check(kind: Kind, folder: str) -> DataSet:
    """The data set in a folder, which must be of the kind. Raises RelayError where it is not."""
    folder = os.path.abspath(folder)
    what, cure = f"{kind.variable}={folder}", f"see {kind.recipe} in data_prep/README.md"
    if not os.path.isdir(folder):
        raise RelayError(f"{what}: no such folder; {cure}")
    for name in (*SPLITS, "mean.binaryproto", "classes.txt"):
        if not os.path.exists(os.path.join(folder, name)):
            raise RelayError(f"{what}: no {name} there; {cure}")
    classes = count_classes(folder)
    if classes not in kind.editions:
        wanted = " or ".join(f"{one.title} has {count}" for count, one in kind.editions.items())
        raise RelayError(f"{what}: {classes} classes in classes.txt; {wanted}; {cure}")
    train, val = (count_records(os.path.join(folder, split)) for split in SPLITS)
    for split in SPLITS if kind.shape else ():
        height, width, channels = first_shape(engines.load().pb, os.path.join(folder, split))
        if (channels, height, width) != kind.shape:
            wanted = "x".join(map(str, kind.shape or ()))
            raise RelayError(
                f"{what}: the records of {split} are {channels}x{height}x{width}, expected "
                f"{wanted}; {cure} (--lmdb)"
            )
    return DataSet(folder, _title(kind.editions[classes], train, val), train, named=folder)


def long_tailed(key: str, whole: DataSet, out: str) -> DataSet:
    """One of TAILS, made below `out` unless it is there."""
    databases = [identity.of_database(os.path.join(whole.path, split)) for split in SPLITS]
    digest = hashlib.sha256("".join(found["index"] for found in databases).encode()).hexdigest()
    folder = os.path.join(out, f"{key}-{digest[:16]}")
    if not os.path.isdir(folder):
        subset(whole.path, folder, ratio=TAILS[key])
    train = count_records(os.path.join(folder, SPLITS[0]))
    title = f"{whole.title}, long-tailed {TAILS[key]:g} to 1 ({train:,} training images)"
    return DataSet(folder, title, train, whole.path)


def drawn(folder: str) -> DataSet:
    """Drawn scenes of 40 x 40 pixels in `folder`, made unless they are there."""
    if not os.path.exists(os.path.join(folder, "mean.binaryproto")):
        make_by("demo_scenes", *DRAWN_SIZE, folder, quiet=True)
    return DataSet(folder, DRAWN_TITLE, count_records(os.path.join(folder, SPLITS[0])))


def _title(edition: Edition, train: int, val: int) -> str:
    """The name of the data set, with its numbers of images where they are unusual."""
    parts = []
    if train not in edition.train:
        whole = " or ".join(f"{count:,}" for count in edition.train)
        parts.append(f"{train:,} training images instead of {whole}")
    if val != edition.val:
        parts.append(f"{val:,} test images instead of {edition.val:,}")
    return f"{edition.title} ({', '.join(parts)})" if parts else edition.title
