"""List files for an image folder that has one subfolder per class.

    python data_prep/make_list.py [FLAGS] IMAGE_FOLDER OUT

Makes the folder OUT with train.txt, val.txt ("CLASS/file.jpg 7" a line, relative to IMAGE_FOLDER)
and classes.txt (the subfolders in alphabetical order; the line number is the label). Then:

    python data_prep/convert_imageset.py -shuffle --classes OUT/classes.txt \\
        IMAGE_FOLDER/ OUT/train.txt DATA/train_lmdb
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from caffe_plain.names import file_name
from relaybp.data_prep.errors import PrepError, run, some

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("images", metavar="IMAGE_FOLDER")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("val_fraction", 0.1, "share of each class that goes into val.txt")
    flags.flag("seed", 0, "of the choice of validation images")
    return flags


def make_lists(
    folder: str | Path, out: str | Path, val_fraction: float = 0.1, seed: int = 0
) -> list[tuple[str, int, int]]:
    """Write the lists; returns the counts per class as [(name, train, val)]."""
    if not 0 <= val_fraction < 1:
        raise PrepError(f"--val_fraction={val_fraction}: expected at least 0 and less than 1")
    classes = _classes(folder)
    rng = np.random.RandomState(seed)  # its stream is frozen by numpy
    lists, counts = {"train": [], "val": []}, []
    for label, name in enumerate(classes):
        files = images_below(os.path.join(folder, name), folder)
        in_val = set(rng.permutation(len(files))[: round(len(files) * val_fraction)].tolist())
        for k, file in enumerate(files):
            lists["val" if k in in_val else "train"].append(f"{file} {label}\n")
        counts.append((name, len(files) - len(in_val), len(in_val)))
    empty = [name for name, train, _ in counts if not train]
    if empty:
        raise PrepError(
            f"{len(empty)} of {len(classes)} classes have no training image:\n"
            f"{some(empty)}\nadd images or remove the folders"
        )
    with complete_folder(out) as partial:
        for split, lines in lists.items():
            (partial / f"{split}.txt").write_text("".join(lines), "utf-8", "surrogateescape")
        (partial / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return counts


def _classes(folder: str | Path) -> list[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise PrepError(f"cannot read the image folder {folder}: {error.strerror}") from error
    names = [
        file_name(entry.name, f"{folder}: class")
        for entry in entries
        if entry.is_dir() and entry.name[0] != "."
    ]
    if not names:
        raise PrepError(f"{folder} has no subfolders: expected one subfolder per class")
    if set(map(str.lower, names)) <= SPLITS:
        raise PrepError(
            f"{folder} holds {', '.join(names)}: these look like splits, not classes; "
            f"call this once for each, as in {os.path.join(folder, names[0])}, with "
            "--val_fraction=0"
        )
    loose = [entry.name for entry in entries if _is_image(entry.name) and entry.is_file()]
    if loose:
        raise PrepError(
            f"{folder} has {len(loose)} images outside the class folders:\n"
            f"{some(loose)}\nmove them into a class or away"
        )
    return names


def images_below(class_folder: str | Path, root: str | Path) -> list[str]:
    """The images below a folder, relative to `root`, in alphabetical order."""
    found = []
    for folder, subfolders, files in os.walk(class_folder, followlinks=True):
        subfolders.sort()
        for name in sorted(filter(_is_image, files)):
            path = os.path.relpath(os.path.join(folder, name), root)
            if "\n" in path or path != path.strip():
                raise PrepError(f"{path!r}: a list file cannot hold such a name: rename it")
            found.append(path)
    return found


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    counts = make_lists(options.images, options.out, options.val_fraction, options.seed)
    for name, train, val in counts if len(counts) <= 20 else []:
        print(f"{name}: {train} train, {val} val")
    print(
        f"{options.out}: {len(counts)} classes, {sum(row[1] for row in counts)} train, "
        f"{sum(row[2] for row in counts)} val"
    )


if __name__ == "__main__":
    run(main)
