"""A data folder from a folder of images, in one step: what `make train DATA=IMAGES` calls.

    python data_prep/data_folder.py [FLAGS] IMAGES OUT

IMAGES has one subfolder per class, or train/ and val/ that have. Without val/ (or validation/,
test/), --val_fraction of each class's images validate, chosen by --seed. Makes the folder OUT with
train_lmdb, val_lmdb, mean.binaryproto, color.txt and classes.txt, see README.md here. What is no
good image is left out, counted and named. The same command given again continues a killed run;
options.json says which it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from caffe_plain.cores import usable_cores
from caffe_plain.files import write_atomically
from caffe_plain.flags import FlagParser
from caffe_plain.images import printable
from relaybp.data_prep.color_pca import color_pca, write_color
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.convert_imageset import convert
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.image_tree import ImageTree
from relaybp.data_prep.make_list import make_lists
from relaybp.progress import Progress

TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test")
VAL_FRACTION = 0.1
OPTIONS = "options.json"  # what made the folder
LARGEST_RAW = 64  # pixels a side; larger records are JPEG files
Say = Callable[[str], None]


class Splits(NamedTuple):
    """The folders with a subfolder per class; val is "" where a part of train validates."""

    train: str
    val: str


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("images", metavar="IMAGES")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("crop", 224, "pixels a side of what the net sees, and of the mean image")
    flags.flag("val_fraction", VAL_FRACTION, "share of each class that validates, without val/")
    flags.flag("seed", 0, "of the choice of validation images, and of the order of the records")
    flags.flag("workers", usable_cores(), "processes that read images")
    return flags


def find_splits(images: str) -> Splits:
    """The folders below `images` that hold the classes, or itself; PrepError without train/."""
    names = {name.lower(): name for name in ImageTree(images).top()[0]}
    train, val = (
        next((names[name] for name in known if name in names), "") for known in (TRAIN, VAL)
    )
    if train and (val or len(names) == 1):
        return Splits(os.path.join(images, train), os.path.join(images, val) if val else "")
    if val and set(names).issubset(VAL):
        raise PrepError(f"{images} holds {', '.join(names.values())}, but no train/: expected both")
    return Splits(images, "")


def record_side(crop: int) -> int:
    """The side of records for crops of a net: 256 for 224, and as much larger for others."""
    return -(-crop * 8 // 7)


def make_data_folder(
    images: str,
    out: str | Path,
    crop: int = 224,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    workers: int = 1,
    say: Say = lambda line: None,
) -> None:
    """Make the data folder `out`, whole or not at all; the options are the command's."""
    out = Path(out)
    if out.exists():
        raise PrepError(f"{out} exists already: delete it or choose another name")
    partial = out.with_name(out.name + ".partial")
    options = {"images": os.path.abspath(images), "crop": crop}
    options.update(val_fraction=val_fraction, seed=seed)
    _refuse_others(partial / OPTIONS, options)
    lists = _make_lists(find_splits(images), partial, val_fraction, seed, say)
    write_atomically(partial / OPTIONS, json.dumps(options) + "\n")
    side = record_side(crop)
    for name, (folder, listed) in lists.items():
        if not (partial / name).exists():
            with Progress(name, 0) as progress:
                _, skipped, _ = convert(
                    f"{folder}/",
                    listed,
                    partial / name,
                    resize_short=side,
                    encode_type="" if side <= LARGEST_RAW else "jpg",
                    shuffle=name == "train_lmdb",
                    seed=seed,
                    skip_bad=True,
                    classes=partial / "lists" / "classes.txt",
                    workers=workers,
                    say=lambda line: progress.say(line) if line.startswith("Left out") else None,
                    watch=progress.of,
                )
            if skipped:
                say(f"{name}: {skipped} images are left out, see {out}/{name}/skipped.tsv")
    train = partial / "train_lmdb"
    mean, _ = mean_of(train, crop, workers, lambda line: say(f"mean: {line}"))
    write_mean(partial / "mean.binaryproto", mean)
    values, vectors, _ = color_pca(train, 1, workers, lambda line: say(f"colours: {line}"))
    write_color(partial / "color.txt", values, vectors)
    os.rename(partial, out)


def _refuse_others(path: Path, options: dict[str, Any]) -> None:
    """Raise PrepError where what a killed run has left was made with other options."""
    found = json.loads(path.read_text()) if path.exists() else options
    differing = [
        f"{name} {found[name]}, not {options[name]}"
        for name in options
        if found[name] != options[name]
    ]
    if differing:
        raise PrepError(
            f"{path.parent} was begun with {'; '.join(differing)}: give the same to go on, or "
            "delete it"
        )


def _make_lists(
    splits: Splits, partial: Path, val_fraction: float, seed: int, say: Say
) -> dict[str, tuple[str, Path]]:
    """{database: (its folder of images, its list)}; the lists are written unless they are there."""
    lists = partial / "lists"
    if not lists.exists():
        counts = make_lists(splits.train, lists, 0 if splits.val else val_fraction, seed, say=say)
        _say_counts(counts, say)
        if not splits.val:
            say(
                f"{100 * val_fraction:g} % of each class validate, chosen with seed {seed}; make "
                f"{splits.train}/train and {splits.train}/val to choose them yourself"
            )
    found = {"train_lmdb": (splits.train, lists / "train.txt")}
    if not splits.val:
        return {**found, "val_lmdb": (splits.train, lists / "val.txt")}
    if not (partial / "val_lists").exists():
        make_lists(splits.val, partial / "val_lists", 0, classes=lists / "classes.txt", say=say)
        say(f"The images of {splits.val} validate")
    return {**found, "val_lmdb": (splits.val, partial / "val_lists" / "train.txt")}


def _say_counts(counts: Sequence[tuple[str, int, int]], say: Say) -> None:
    for name, train, val in counts if len(counts) <= 20 else []:
        say(f"{printable(name)}: {train} train" + (f", {val} val" if val else ""))


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    make_data_folder(**vars(options), say=lambda line: print(line, flush=True))
    print(f"{options.out}: complete")


if __name__ == "__main__":
    run(main)
