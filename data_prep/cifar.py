"""CIFAR-10 or CIFAR-100, as downloaded (binary or python), to images and lists, or to LMDBs.

    python data_prep/cifar.py [FLAGS] cifar-10-binary.tar.gz OUT

Makes OUT/train/CLASS/00000.png, ..., OUT/val/..., OUT/train.txt, OUT/val.txt (relative to OUT) and
OUT/classes.txt: 50000 images to train with, and the 10000 test images as val. Then:

    python data_prep/convert_imageset.py -shuffle --classes OUT/classes.txt \\
        OUT/ OUT/train.txt DATA/train_lmdb

With --lmdb, OUT becomes a DATA folder: train_lmdb, val_lmdb, mean.binaryproto, classes.txt. The
records are those of Caffe's convert_cifar_data: 3 x 32 x 32 pixels in RGB order, as CIFAR stores
them (convert_imageset stores BGR), in the order of the files. Both versions give the same result.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from caffe_plain.flags import FlagParser
from relaybp.data_prep.archives import is_archive, unpacked
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.pickles import read_pickle
from relaybp.data_prep.small_images import write_set

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


class Version(NamedTuple):
    """What an archive of CIFAR holds, and how it is read."""

    train: list[str]  # files
    val: list[str]
    names: str  # the file of the class names
    read_names: Callable[[Path], list[str]]
    read: Callable[[Path], tuple[np.ndarray, np.ndarray]]  # pixels (N, 3072) and labels


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument(
        "archive",
        metavar="ARCHIVE",
        help="cifar-10-binary.tar.gz, "
        "cifar-10-python.tar.gz, cifar-100-..., or what they hold, unpacked",
    )
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("lmdb", False, "write LMDBs instead of images")
    flags.flag(
        "labels", "fine", "100 fine or 20 coarse labels, for CIFAR-100", choices=("fine", "coarse")
    )
    return flags


def prepare(
    archive: str | Path, out: str | Path, lmdb: bool = False, labels: str = "fine"
) -> tuple[int, int, int]:
    """Write the images or LMDBs; returns (images to train with, images to validate, classes)."""
    if not Path(archive).exists():
        raise PrepError(f"{archive}: no such file or folder; expected CIFAR's archive")
    if not is_archive(archive) and not Path(archive).is_dir():
        raise PrepError(f"{archive} is neither an archive (tar.gz) nor a folder")
    with unpacked(archive) as folder:
        folder, version = _find(folder, labels, archive)
        names = version.read_names(folder / version.names)
        splits = {
            split: [_read_split(folder, files, version, names)]
            for split, files in (("train", version.train), ("val", version.val))
        }
    write_set(out, splits, names, lmdb, b"%05d")
    return *(len(splits[split][0][1]) for split in splits), len(names)


def _versions(labels: str) -> list[Version]:
    """The four archives, CIFAR-100's with these labels."""
    batches = [f"data_batch_{k}" for k in range(1, 6)]
    return [
        Version(
            [f"{name}.bin" for name in batches],
            ["test_batch.bin"],
            "batches.meta.txt",
            _names_in_text,
            partial(read_binary, 1, 0),
        ),
        Version(
            ["train.bin"],
            ["test.bin"],
            f"{labels}_label_names.txt",
            _names_in_text,
            partial(read_binary, 2, ("coarse", "fine").index(labels)),
        ),
        Version(
            batches,
            ["test_batch"],
            "batches.meta",
            partial(_names_in_pickle, "label_names"),
            partial(_read_pickled, "labels"),
        ),
        Version(
            ["train"],
            ["test"],
            "meta",
            partial(_names_in_pickle, f"{labels}_label_names"),
            partial(_read_pickled, f"{labels}_labels"),
        ),
    ]


def _find(folder: Path, labels: str, archive: str | Path) -> tuple[Path, Version]:
    """The folder of the files, and what version they are."""
    versions = _versions(labels)
    for place in (folder, *sorted(folder.glob("cifar-10*"))):
        for version in versions:
            if (place / version.names).is_file():
                return place, version
    raise PrepError(
        f"{archive} is not CIFAR: expected in it {versions[0].names} or "
        f"{versions[2].names} (CIFAR-10), {versions[1].names} or {versions[3].names} "
        "(CIFAR-100); take the binary or the python version from "
        "https://www.cs.toronto.edu/~kriz/cifar.html"
    )


def _read_split(
    folder: Path, files: list[str], version: Version, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (N, 3, 32, 32) and labels (N,) of the files of a split."""
    found = []
    for path in (folder / file for file in files):
        if not path.is_file():
            raise PrepError(f"{path} is missing: unpack the archive again")
        pixels, labels = version.read(path)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if wrong.size:
            raise PrepError(
                f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, but "
                f"{version.names} names {len(names)} classes: unpack the archive again"
            )
        found.append((pixels.reshape(-1, *SHAPE), labels))
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def _names_in_text(path: Path) -> list[str]:
    return path.read_text().split()


def read_binary(label_bytes: int, label: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (N, 3072) and labels (N,) of a binary file.

    A row has `label_bytes` labels, of which number `label` counts, and the pixels.
    """
    data, size = np.fromfile(path, np.uint8), label_bytes + PIXELS
    if data.size == 0 or data.size % size:
        raise PrepError(
            f"{path} is truncated: expected a multiple of {size} bytes, found "
            f"{data.size}: unpack the archive again"
        )
    rows = data.reshape(-1, size)
    return rows[:, label_bytes:], rows[:, label]


def _names_in_pickle(key: str, path: Path) -> list[str]:
    return [name.decode() for name in read_pickle(path, [key])[0]]


def _read_pickled(key: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A dict with the pixels under "data" and the labels under `key`."""
    pixels, labels = read_pickle(path, ["data", key])
    if getattr(pixels, "dtype", None) != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise PrepError(
            f"{path}: expected an array of {len(labels)} x {PIXELS} bytes under "
            f"'data', found {getattr(pixels, 'shape', type(pixels).__name__)}: unpack "
            "the archive again"
        )
    return pixels, np.array(labels)


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    train, val, classes = prepare(options.archive, options.out, options.lmdb, options.labels)
    print(f"{options.out}: {train} train, {val} val, {classes} classes")


if __name__ == "__main__":
    run(main)
