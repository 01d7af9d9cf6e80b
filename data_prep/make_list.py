"""List files for an image folder that has one subfolder per class.

    python data_prep/make_list.py [FLAGS] IMAGE_FOLDER OUT

Makes the folder OUT with train.txt, val.txt ("CLASS/file.jpg 7" a line, relative to IMAGE_FOLDER)
and classes.txt (the subfolders in alphabetical order; the line number is the label). Then:

    python data_prep/convert_imageset.py -shuffle --classes OUT/classes.txt \\
        IMAGE_FOLDER/ OUT/train.txt DATA/train_lmdb

What is left out (hidden and system folders, links that lead back, files that are no images or
that OpenCV here cannot read) is counted and named. A val folder of its own takes
--classes=OUT/classes.txt of the training set, so that a class it lacks shifts no label.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import numpy as np

from caffe_plain.class_names import read_class_names, write_class_names
from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from caffe_plain.images import printable
from relaybp.data_prep.errors import PrepError, run, some
from relaybp.data_prep.image_tree import ImageTree

SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("images", metavar="IMAGE_FOLDER")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("val_fraction", 0.1, "share of each class that goes into val.txt")
    flags.flag("seed", 0, "of the choice of validation images")
    flags.flag("classes", "", "the classes.txt of the training set, whose labels these images take")
    return flags


def make_lists(
    folder: str | Path,
    out: str | Path,
    val_fraction: float = 0.1,
    seed: int = 0,
    classes: str | Path = "",
    say: Callable[[str], None] = lambda line: None,
) -> list[tuple[str, int, int]]:
    """Write the lists; returns the counts per class as [(name, train, val)].

    classes: a classes.txt whose labels count, for a set that goes with another one. What is left
    out is said, a line for each kind.
    """
    if not 0 <= val_fraction < 1:
        raise PrepError(f"--val_fraction={val_fraction}: expected at least 0 and less than 1")
    tree = ImageTree(folder)
    names = _classes(tree)
    found = {name: tree.images(name) for name in names}
    names = _numbered(names, classes, say) if classes else names
    for line in tree.lines():
        say(line)
    rng = np.random.RandomState(seed)  # its stream is frozen by numpy
    lists, counts = {"train": [], "val": []}, []
    for label, name in enumerate(names):
        files = found.get(name, [])
        in_val = set(rng.permutation(len(files))[: round(len(files) * val_fraction)].tolist())
        for k, file in enumerate(files):
            lists["val" if k in in_val else "train"].append(b"%s %d\n" % (os.fsencode(file), label))
        counts.append((name, len(files) - len(in_val), len(in_val)))
    _check_counts([row for row in counts if row[0] in found], val_fraction, tree)
    lacking = [printable(name) for name, _, val in counts if not val]
    if val_fraction and lacking:
        say(f"{len(lacking)} of {len(counts)} classes have no validation image:\n{some(lacking)}")
    with complete_folder(out) as partial:
        for split, lines in lists.items():
            (partial / f"{split}.txt").write_bytes(b"".join(lines))
        write_class_names(partial / "classes.txt", names)
    return counts


def _classes(tree: ImageTree) -> list[str]:
    """The class folders."""
    names, loose = tree.top()
    if not names:
        raise PrepError(
            f"{tree.root} has no subfolders: expected one subfolder per class{_left_out(tree)}"
        )
    if set(map(str.lower, names)) <= SPLITS:
        raise PrepError(
            f"{tree.root} holds {', '.join(names)}: these look like splits, not classes; "
            f"call this once for each, as in {os.path.join(tree.root, names[0])}, with "
            "--val_fraction=0, and for all but the first with --classes=OUT/classes.txt of that"
        )
    if loose:
        raise PrepError(
            f"{tree.root} has {len(loose)} images outside the class folders:\n"
            f"{some(loose)}\nmove them into a class or away"
        )
    return names


def _numbered(found: list[str], path: str | Path, say: Callable[[str], None]) -> list[str]:
    """The names in a class file, which must know every class that was found."""
    names = read_class_names(path)
    unknown = sorted(set(found).difference(names))
    if unknown:
        raise PrepError(
            f"{len(unknown)} of {len(found)} folders are no classes of {path}:\n"
            f"{some([printable(name) for name in unknown])}\nrename or remove them, or give the "
            "class file of all"
        )
    missing = [printable(name) for name in names if name not in set(found)]
    if missing:
        say(f"{len(missing)} of {len(names)} classes have no folder here:\n{some(missing)}")
    return names


def _check_counts(counts: list[tuple[str, int, int]], val_fraction: float, tree: ImageTree) -> None:
    empty = [printable(name) for name, train, _ in counts if not train]
    if empty:
        raise PrepError(
            f"{len(empty)} of {len(counts)} classes have no training image:\n"
            f"{some(empty)}\nadd images or remove the folders{_left_out(tree)}"
        )
    if val_fraction and not any(val for _, _, val in counts):
        largest = max(train for _, train, _ in counts)
        raise PrepError(
            f"--val_fraction={val_fraction:g} of at most {largest} images of a class is not one "
            "image: give a larger one, or 0 for no validation images"
        )


def _left_out(tree: ImageTree) -> str:
    return "".join(f"\n{line}" for line in tree.lines())


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    counts = make_lists(
        options.images, options.out, options.val_fraction, options.seed, options.classes, print
    )
    for name, train, val in counts if len(counts) <= 20 else []:
        print(f"{printable(name)}: {train} train, {val} val")
    print(
        f"{options.out}: {len(counts)} classes, {sum(row[1] for row in counts)} train, "
        f"{sum(row[2] for row in counts)} val"
    )


if __name__ == "__main__":
    run(main)
