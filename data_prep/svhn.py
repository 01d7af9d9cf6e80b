"""SVHN's cropped digits (format 2: train_32x32.mat, test_32x32.mat), to images and lists, or LMDBs.

    python data_prep/svhn.py [FLAGS] FOLDER OUT

FOLDER holds the .mat files as downloaded. Makes OUT/train/5/00000.png, ..., OUT/train.txt,
OUT/val.txt (relative to OUT) and OUT/classes.txt: 73257 digits to train with, or with --extra
604388, and the 26032 test digits as val. SVHN's label 10, the digit 0, becomes label 0. Then:

    python data_prep/convert_imageset.py -shuffle --classes OUT/classes.txt \\
        OUT/ OUT/train.txt DATA/train_lmdb

With --lmdb, OUT becomes a DATA folder: train_lmdb, val_lmdb, mean.binaryproto, classes.txt, the
pixels in RGB order, as SVHN and CIFAR store them (convert_imageset stores BGR).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffe_plain.flags import FlagParser
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.matlab import read_matlab
from relaybp.data_prep.small_images import write_set

NAMES = list("0123456789")


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("folder", metavar="FOLDER", help="holds train_32x32.mat, test_32x32.mat")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("lmdb", False, "write LMDBs instead of images")
    flags.flag("extra", False, "train with extra_32x32.mat, too")
    return flags


def prepare(
    folder: str | Path, out: str | Path, lmdb: bool = False, extra: bool = False
) -> dict[str, list[int]]:
    """Write the images or LMDBs; returns {split: digits of each class}."""
    train = ["train_32x32.mat", *(["extra_32x32.mat"] if extra else [])]
    files = [Path(folder) / name for name in [*train, "test_32x32.mat"]]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise PrepError(
            f"{folder} lacks {', '.join(missing)}: take them (format 2, cropped "
            "digits) from http://ufldl.stanford.edu/housenumbers"
        )
    return write_set(
        out, {"train": map(_read, files[:-1]), "val": map(_read, files[-1:])}, NAMES, lmdb
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (N, 3, 32, 32) and labels (N,) of a file with X (32, 32, 3, N) and y (N, 1)."""
    pixels, labels = read_matlab(path, ["X", "y"])
    labels = labels.ravel()
    if pixels.dtype != np.uint8 or pixels.shape != (32, 32, 3, len(labels)):
        raise PrepError(
            f"{path}: expected X of bytes, 32 x 32 x 3 x {len(labels)} as y says; "
            f"found {pixels.dtype}, {' x '.join(map(str, pixels.shape))}: download it "
            "again"
        )
    wrong = np.flatnonzero((labels < 1) | (labels > 10))
    if wrong.size:
        raise PrepError(
            f"{path}: digit {wrong[0]} has label {labels[wrong[0]]}, expected 1 to 10: "
            "download it again"
        )
    return pixels.transpose(3, 2, 0, 1), labels.astype(int) % 10


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    counts = prepare(options.folder, options.out, options.lmdb, options.extra)
    print(f"{options.out}: {sum(counts['train'])} train, {sum(counts['val'])} val, 10 classes")


if __name__ == "__main__":
    run(main)
