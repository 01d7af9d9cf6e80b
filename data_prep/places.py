"""Places365, or Places2 of 2015 (401 classes): its own list files to those of convert_imageset.

    python data_prep/places.py CATEGORIES TRAIN_LIST VAL_LIST OUT

The files as downloaded: categories_places365.txt ("/a/airfield 0" a line),
places365_train_standard.txt ("/a/airfield/00000001.jpg 0") and places365_val.txt
("Places365_val_00000001.jpg 165"). Makes OUT/train.txt, OUT/val.txt, relative to the folders of
the images, and OUT/classes.txt; every label must have a name and every class images to train with.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffe_plain.class_names import write_class_names
from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from relaybp.data_prep.errors import PrepError, run, some
from relaybp.data_prep.image_list import ImageList

_LETTER = re.compile("^/?[a-z]/")  # of the folder in which the class's folder lies


class Counts(NamedTuple):
    """How many there are."""

    train: int  # images
    val: int
    classes: int
    smallest: int  # images that a class has to train with, at least
    largest: int  # and at most


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("categories", metavar="CATEGORIES")
    flags.add_argument("train", metavar="TRAIN_LIST")
    flags.add_argument("val", metavar="VAL_LIST")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    return flags


def prepare(categories: str | Path, train: str | Path, val: str | Path, out: str | Path) -> Counts:
    """Write the lists; returns the Counts."""
    names = read_categories(categories)
    lists = {"train": ImageList(train, names), "val": ImageList(val, names)}
    sizes = np.bincount(lists["train"].labels, minlength=len(names))
    empty = [names[label] for label in np.flatnonzero(sizes == 0)]
    if empty:
        raise PrepError(
            f"{train}: {len(empty)} of {len(names)} classes have no image:\n"
            f"{some(empty)}\ntake the list and the categories of the same set"
        )
    with complete_folder(out) as partial:
        write_class_names(partial / "classes.txt", names)
        for split, images in lists.items():
            with open(partial / f"{split}.txt", "wb") as file:
                file.writelines(
                    b"%s %d\n" % (images.name(k).lstrip(b"/"), label)
                    for k, label in enumerate(images.labels.tolist())
                )
    return Counts(len(lists["train"]), len(lists["val"]), len(names), sizes.min(), sizes.max())


def read_categories(path: str | Path) -> list[str]:
    """The names of the classes in the order of their labels, of lines "/a/airfield 0"."""
    categories = ImageList(path)
    labels = categories.labels.tolist()
    if sorted(labels) != list(range(len(labels))):
        raise PrepError(f"{path}: expected each label from 0 to {len(labels) - 1} once")
    names = {label: os.fsdecode(categories.name(k)) for k, label in enumerate(labels)}
    return [_LETTER.sub("", names[label]) for label in range(len(names))]


def main(args: list[str] | None = None) -> None:
    options = vars(parser().parse_args(args))
    found = prepare(**options)
    print(
        f"{options['out']}: {found.train} train, {found.val} val, {found.classes} classes of "
        f"{found.smallest} to {found.largest}"
    )


if __name__ == "__main__":
    run(main)
