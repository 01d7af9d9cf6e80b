"""Write sets of small images (arrays of CIFAR, SVHN) as images and lists, or as LMDBs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from caffe_plain.class_names import write_class_names
from caffe_plain.files import complete_folder
from caffe_plain.names import file_name
from relaybp.data_prep.colour_order import FIELD, RGB
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.datum_db import DatumDB, raw_datum

Arrays = Iterable[tuple[np.ndarray, np.ndarray]]  # pixels (N, 3, H, W) in RGB order, labels (N,)


def write_set(
    out: str | Path, splits: dict[str, Arrays], names: list[str], lmdb: bool, key: bytes = b"%08d"
) -> dict[str, list[int]]:
    """Make the folder `out`; returns {split: images of each class}.

    splits: {"train": arrays, "val": arrays}; arrays: an iterable of pixels (N, 3, H, W) in RGB
    order and labels (N,). With `lmdb`, a data folder: train_lmdb, val_lmdb, mean.binaryproto,
    classes.txt, the pixels in RGB order as they come, under keys as `key`. Else images (PNG), lists
    and classes.txt. Raises DataError for a class that cannot name a folder.
    """
    names, counts = [file_name(name, f"{out}: class") for name in names], {}
    with complete_folder(out) as partial:
        write_class_names(partial / "classes.txt", names)
        for split, arrays in splits.items():
            images = _numbered(arrays)
            if lmdb:
                counts[split] = _write_lmdb(partial / f"{split}_lmdb", images, names, key)
            else:
                counts[split] = _write_images(partial, split, images, names)
        if lmdb:
            write_mean(partial / "mean.binaryproto", mean_of(partial / "train_lmdb")[0])
    return counts


def _numbered(arrays: Arrays) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the pixels (3, H, W), the label and the number of each image."""
    numbers = count()
    for pixels, labels in arrays:
        yield from zip(pixels, labels.tolist(), numbers, strict=False)  # the numbering continues


def _write_lmdb(
    folder: Path, images: Iterable[tuple[np.ndarray, int, int]], names: list[str], key: bytes
) -> list[int]:
    counts = np.zeros(len(names), int)
    with DatumDB(folder, {"tool": "small_images", FIELD: RGB}) as db:
        for pixels, label, number in images:
            db.put(key % number, raw_datum(pixels.tobytes(), pixels.shape, label))
            counts[label] += 1
        db.finish(counts.tolist(), names)
    return counts.tolist()


def _write_images(
    out: Path, split: str, images: Iterable[tuple[np.ndarray, int, int]], names: list[str]
) -> list[int]:
    lines, counts = [], np.zeros(len(names), int)
    for name in names:
        (out / split / name).mkdir(parents=True)
    for pixels, label, number in images:
        file = f"{split}/{names[label]}/{number:05d}.png"
        png = cv2.imencode(".png", pixels.transpose(1, 2, 0)[:, :, ::-1])[1]
        (out / file).write_bytes(png)
        lines.append(f"{file} {label}\n")
        counts[label] += 1
    (out / f"{split}.txt").write_text("".join(lines), "utf-8")
    return counts.tolist()
