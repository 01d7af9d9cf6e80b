"""CIFAR-10 or CIFAR-100, as downloaded (binary version), to images and lists, or to LMDBs.

    python data_prep/cifar.py [FLAGS] cifar-10-batches-bin/ OUT

Makes OUT/train/CLASS/00000.png, ..., OUT/val/..., OUT/train.txt, OUT/val.txt (relative to OUT) and
OUT/classes.txt: 50000 images to train with, and the 10000 test images as val. Then:

    python data_prep/convert_imageset.py -shuffle --classes OUT/classes.txt \\
        OUT/ OUT/train.txt DATA/train_lmdb

With --lmdb, OUT is a DATA folder at once: train_lmdb, val_lmdb, mean.binaryproto, classes.txt. The
records are those of Caffe's convert_cifar_data: 3 x 32 x 32 pixels in RGB order, as CIFAR stores
them (convert_imageset stores BGR), in the order of the files.
"""

import sys
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from data_prep.compute_image_mean import mean_of, write_mean
from data_prep.datum_db import DatumDB, raw_datum
from data_prep.errors import PrepError, run
from data_prep.flags import FlagParser
from data_prep.folders import complete_folder

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32

# train, val: files; names: file of class names; label_bytes: bytes before the pixels;
# label: which of them is the label.
Archive = namedtuple("Archive", "train val names label_bytes label")
CIFAR10 = Archive([f"data_batch_{k}.bin" for k in range(1, 6)], ["test_batch.bin"],
                  "batches.meta.txt", 1, 0)
CIFAR100 = {"coarse": Archive(["train.bin"], ["test.bin"], "coarse_label_names.txt", 2, 0),
            "fine": Archive(["train.bin"], ["test.bin"], "fine_label_names.txt", 2, 1)}


def parser():
    flags = FlagParser(__doc__)
    flags.add_argument("archive", metavar="FOLDER", help="cifar-10-batches-bin/ or "
                       "cifar-100-binary/, or the folder that holds it")
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("lmdb", False, "write LMDBs instead of images")
    flags.flag("labels", "fine", "CIFAR-100's 100 fine or 20 coarse labels", ("fine", "coarse"))
    return flags


def prepare(folder, out, lmdb=False, labels="fine"):
    """Write the images or LMDBs; returns (images to train with, images to validate, classes)."""
    folder, archive = _find(Path(folder), labels)
    names = (folder / archive.names).read_text().split()
    splits = {"train": _read(folder, archive.train, archive, names),
              "val": _read(folder, archive.val, archive, names)}
    with complete_folder(out) as partial:
        (partial / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        for split, (pixels, split_labels) in splits.items():
            (_write_lmdb if lmdb else _write_images)(partial, split, pixels, split_labels, names)
        if lmdb:
            write_mean(partial / "mean.binaryproto", mean_of(partial / "train_lmdb")[0])
    return len(splits["train"][1]), len(splits["val"][1]), len(names)


def _find(folder, labels):
    """The folder of the binary files, and what it is."""
    for place in (folder, folder / "cifar-10-batches-bin", folder / "cifar-100-binary"):
        for archive in (CIFAR10, CIFAR100[labels]):
            if (place / archive.names).is_file():
                return place, archive
    raise PrepError(f"{folder} is not a CIFAR folder: expected {CIFAR10.names} (CIFAR-10) or "
                    f"{CIFAR100[labels].names} (CIFAR-100) in it; take the binary version from "
                    "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it")


def _read(folder, files, archive, names):
    """The pixels (N, 3, 32, 32) and labels (N,) of the files of a split."""
    size = archive.label_bytes + PIXELS
    rows = []
    for path in (folder / file for file in files):
        try:
            data = np.fromfile(path, np.uint8)
        except FileNotFoundError as error:
            raise PrepError(f"{path} is missing: unpack the archive again") from error
        if data.size == 0 or data.size % size:
            raise PrepError(f"{path} is truncated: expected a multiple of {size} bytes, found "
                            f"{data.size}: unpack the archive again")
        rows.append(data.reshape(-1, size))
    rows = np.concatenate(rows)
    labels = rows[:, archive.label]
    wrong = np.flatnonzero(labels >= len(names))
    if wrong.size:
        raise PrepError(f"{folder}, {files[0]}: image {wrong[0]} has label {labels[wrong[0]]}, but "
                        f"{archive.names} names {len(names)} classes: unpack the archive again")
    return rows[:, archive.label_bytes:].reshape(-1, *SHAPE), labels


def _write_lmdb(out, split, pixels, labels, names):
    with DatumDB(out / f"{split}_lmdb", {"tool": "cifar"}) as db:
        for k, label in enumerate(labels.tolist()):
            db.put(b"%05d" % k, raw_datum(pixels[k].tobytes(), SHAPE, label))
        db.finish(np.bincount(labels, minlength=len(names)).tolist(), names)


def _write_images(out, split, pixels, labels, names):
    lines = []
    for name in names:
        (out / split / name).mkdir(parents=True)
    for k, label in enumerate(labels.tolist()):
        file = f"{split}/{names[label]}/{k:05d}.png"
        png = cv2.imencode(".png", pixels[k].transpose(1, 2, 0)[:, :, ::-1])[1]
        (out / file).write_bytes(png)
        lines.append(f"{file} {label}\n")
    (out / f"{split}.txt").write_text("".join(lines))


def main(args=None):
    options = parser().parse_args(sys.argv[1:] if args is None else args)
    train, val, classes = prepare(options.archive, options.out, options.lmdb, options.labels)
    print(f"{options.out}: {train} train, {val} val, {classes} classes")


if __name__ == "__main__":
    run(main)
