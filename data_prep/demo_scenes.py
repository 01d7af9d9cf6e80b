"""Make the demo set: eight kinds of drawn scenes, some rarer than others, with no download.

    python data_prep/demo_scenes.py [FLAGS] OUT

Makes the folder OUT with train_lmdb (1600 images), val_lmdb (400), mean.binaryproto, color.txt,
classes.txt and samples.png, a page of examples. Images are 128 x 128 or --size, raw BGR. The same
seed gives the same set. If OUT exists, nothing is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from caffe_plain.cores import usable_cores
from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from relaybp.data_prep.brushes import SIZE
from relaybp.data_prep.color_pca import color_pca, write_color
from relaybp.data_prep.colour_order import BGR, FIELD
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.datum_db import DatumDB, key_of, raw_datum
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.scenes import KINDS, draw, draw_record
from relaybp.data_prep.workers import process_map
from relaybp.progress import Progress

TRAIN_SHARES = (0.22, 0.19, 0.16, 0.13, 0.11, 0.09, 0.06, 0.04)  # of the kinds, in their order
FIRST_SEED = {"train": 0, "val": 500_000}  # of an image; seeds a million apart share none


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("train", 1600, "images to train with")
    flags.flag("val", 400, "images to validate with; all kinds alike")
    flags.flag("size", SIZE, "pixels a side of an image; it is drawn larger and shrunk")
    flags.flag("seed", 0, "another seed gives another set")
    flags.flag("workers", usable_cores(), "processes that draw")
    return flags


def make_demo(
    out: str | Path,
    train: int = 1600,
    val: int = 400,
    size: int = SIZE,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, list[int]]:
    """Make the set; returns the number of images of each kind as {split: [...]}."""
    even = [1 / len(KINDS)] * len(KINDS)
    counts = {"train": _shares(train, TRAIN_SHARES), "val": _shares(val, even)}
    if min(map(min, counts.values())) < 1 or max(train, val) > FIRST_SEED["val"]:
        raise PrepError(
            f"--train={train} --val={val}: expected 25 to 500000 images to train with "
            "and 8 to 500000 to validate with, so that no kind is empty"
        )
    with complete_folder(out) as partial_out:
        for split, numbers in counts.items():
            first_seed = seed * 1_000_000 + FIRST_SEED[split]
            _write_split(partial_out / f"{split}_lmdb", numbers, size, first_seed, workers)
        write_mean(partial_out / "mean.binaryproto", mean_of(partial_out / "train_lmdb")[0])
        write_color(partial_out / "color.txt", *color_pca(partial_out / "train_lmdb")[:2])
        samples = cv2.imencode(".png", _samples(seed * 1_000_000))[1]
        (partial_out / "samples.png").write_bytes(samples)
    return counts


def _shares(total: int, shares: Sequence[float]) -> list[int]:
    """`total` split into whole numbers by share; what rounding leaves goes to the first."""
    numbers = [int(total * share + 1e-9) for share in shares]
    numbers[0] += total - sum(numbers)
    return numbers


def _write_split(db: Path, numbers: list[int], size: int, first_seed: int, workers: int) -> None:
    kinds = list(KINDS)
    labels = np.repeat(np.arange(len(kinds)), numbers)
    labels = np.random.RandomState(first_seed % 2**32).permutation(labels).tolist()
    items = [(k, kinds[label]) for k, label in enumerate(labels)]
    pictures = process_map(partial(draw_record, first_seed, size), items, workers)
    with (
        Progress(db.name, len(items), every_s=math.inf) as progress,
        DatumDB(db, {"tool": "demo_scenes", "first_seed": first_seed, FIELD: BGR}) as out,
    ):
        for (k, kind), label, pixels in zip(items, labels, pictures, strict=True):
            key = key_of(k, kind.encode())
            out.put(key, raw_datum(pixels, (3, size, size), label))
            progress.count(1)
        out.finish(numbers, kinds)


def _samples(first_seed: int, columns: int = 10) -> np.ndarray:
    """A page with a row of pictures of each kind."""
    rows = [
        [
            draw(kind, np.random.RandomState((first_seed + 100 * k + j + 900_000) % 2**32))
            for j in range(columns)
        ]
        for k, kind in enumerate(KINDS)
    ]
    return np.vstack([np.hstack(row) for row in rows])


def main(args: list[str] | None = None) -> None:
    options = vars(parser().parse_args(args))
    out = options["out"]
    if (Path(out) / "color.txt").is_file():
        print(f"{out} stands already")
        return
    counts = make_demo(**options)
    for k, kind in enumerate(KINDS):
        print(f"{kind}: {counts['train'][k]} train, {counts['val'][k]} val")
    print(f"{out}: {len(KINDS)} classes, {options['train']} train, {options['val']} val")


if __name__ == "__main__":
    run(main)
