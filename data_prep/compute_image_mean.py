"""The mean image of an LMDB, per pixel into a file, and per channel on the screen.

    python data_prep/compute_image_mean.py [FLAGS] INPUT_DB [OUTPUT_FILE]

OUTPUT_FILE, usually mean.binaryproto, is what mean_file in a prototxt names; the values per
channel are what mean_value takes. The arguments and the file are those of the original tool.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Callable

import lmdb
import numpy as np

from caffe.files.datum import decode_datum
from caffe.proto import caffe_pb2
from caffe_plain.cores import usable_cores
from caffe_plain.database import is_leveldb, open_database
from caffe_plain.files import write_atomically
from caffe_plain.flags import FlagParser
from caffe_plain.images import printable
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.workers import thread_map


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("db", metavar="INPUT_DB")
    flags.add_argument("output", metavar="OUTPUT_FILE", nargs="?")
    flags.flag("backend", "", "lmdb or leveldb (default: what INPUT_DB is)")
    flags.flag(
        "center_crop",
        0,
        "the mean of the central square of this side; for images of "
        "different sizes (0: whole images)",
    )
    flags.flag("force_color", False, "decode to three channels, as a Data layer with force_color")
    flags.flag("workers", usable_cores(), "threads that decode images")
    return flags


def mean_of(
    db: str | Path,
    center_crop: int = 0,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
    force_color: bool = False,
) -> tuple[np.ndarray, int]:
    """The mean (C, H, W) of all images of a database, float64, and their number."""
    total, count = None, 0
    for key, image in thread_map(
        partial(_pixels, center_crop, force_color), read_records(db), workers
    ):
        if total is None:
            total = np.zeros(image.shape)
        if image.shape != total.shape:
            raise PrepError(_size_problem(db, key, image.shape, total.shape, center_crop))
        total += image
        count += 1
        if count % 10000 == 0:
            say(f"Processed {count} files.")
    if not count:
        raise PrepError(f"{db} holds no records")
    return total / count, count


def write_mean(path: str | Path, mean: np.ndarray) -> None:
    """Write a mean (C, H, W) as the BlobProto that mean_file expects."""
    blob = caffe_pb2.BlobProto(num=1)
    blob.channels, blob.height, blob.width = mean.shape
    blob.data.extend(mean.astype(np.float32).ravel())
    write_atomically(path, blob.SerializeToString())


def read_records(db: str | Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield each (key, record) of a database."""
    try:
        with closing(open_database(db)) as environment, environment.begin() as transaction:
            yield from transaction.cursor()
    except lmdb.Error as error:
        raise PrepError(
            f"cannot read {db}: {error}; the database is damaged: convert it again"
        ) from error


def _pixels(
    center_crop: int, force_color: bool, item: tuple[bytes, bytes]
) -> tuple[bytes, np.ndarray]:
    """The key and the pixels, cropped, of one (key, record)."""
    key, record = item
    image = decode_datum(record, key, True if force_color else None)
    if center_crop:
        _, height, width = image.shape
        if min(height, width) < center_crop:
            raise PrepError(
                f"record {printable(key)!r}: {height} x {width} is smaller than "
                f"-center_crop={center_crop}"
            )
        top, left = (height - center_crop) // 2, (width - center_crop) // 2
        image = image[:, top : top + center_crop, left : left + center_crop]
    return key, image


def _size_problem(
    db: str | Path, key: bytes, shape: tuple[int, ...], expected: tuple[int, ...], center_crop: int
) -> str:
    found, first = (" x ".join(map(str, size)) for size in (shape, expected))
    cure = (
        "take it with --force_color, and train with transform_param { force_color: true }"
        if shape[0] != expected[0]
        else "convert with -resize_width and -resize_height, or take the mean of the central "
        "square with --center_crop"
    )
    return (
        f"{db}, record {printable(key)!r}: {found} (channels x height x width), but the images "
        f"before it are {first}; a mean needs one size: {cure}"
    )


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    found = "leveldb" if is_leveldb(options.db) else "lmdb"
    if options.backend not in ("", found):
        raise PrepError(f"-backend={options.backend}: {options.db} is of backend {found}")
    mean, count = mean_of(
        options.db,
        options.center_crop,
        options.workers,
        lambda line: print(line, file=sys.stderr, flush=True),
        options.force_color,
    )
    if options.output:
        write_mean(options.output, mean)
    print(
        f"{count} images of {' x '.join(map(str, mean.shape))} (channels x height x width)"
        + (f", mean in {options.output}" if options.output else "")
    )
    for channel, value in enumerate(mean.mean(axis=(1, 2))):
        print(f"mean_value channel [{channel}]: {value:.6g}")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
