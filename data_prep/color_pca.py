"""The principal components of the colours of an LMDB's pixels, for AlexNet's colour shift.

    python data_prep/color_pca.py [FLAGS] INPUT_DB [OUTPUT_FILE]

OUTPUT_FILE, usually color.txt, is what color_file of a SceneData layer names: three lines, the
largest component first, each with the eigenvalue and the eigenvector of the covariance of all
pixels, in [0, 1], in the order of the records' channels (convert_imageset: blue, green, red).
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Callable

import numpy as np

from caffe.files.datum import decode_datum
from caffe_plain.cores import usable_cores
from caffe_plain.files import write_atomically
from caffe_plain.flags import FlagParser
from relaybp.data_prep.compute_image_mean import read_records
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.workers import thread_map


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("db", metavar="INPUT_DB")
    flags.add_argument("output", metavar="OUTPUT_FILE", nargs="?")
    flags.flag("every", 1, "read only every so many-th record")
    flags.flag("workers", usable_cores(), "threads that decode images")
    return flags


def color_pca(
    db: str | Path, every: int = 1, workers: int = 1, say: Callable[[str], None] = lambda line: None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Eigenvalues (3,), eigenvectors (3, 3), one a row, and the number of images."""
    if every < 1:
        raise PrepError(f"--every={every}: expected 1 or more")
    count, pixels, total, products = 0, 0, np.zeros(3), np.zeros((3, 3))
    records = islice(read_records(db), 0, None, every)
    for size, sums, moments in thread_map(_moments, records, workers):
        count, pixels = count + 1, pixels + size
        total += sums
        products += moments
        if count % 10000 == 0:
            say(f"Processed {count} files.")
    if not count:
        raise PrepError(f"{db} holds no records")
    mean = total / pixels
    values, vectors = np.linalg.eigh(products / pixels - np.outer(mean, mean))  # ascending
    values, vectors = values[::-1].clip(0), vectors.T[::-1]
    largest = np.abs(vectors).argmax(axis=1)  # positive, because the sign of an eigenvector is free
    return values, vectors * np.sign(vectors[range(3), largest])[:, None], count


def write_color(path: str | Path, values: np.ndarray, vectors: np.ndarray) -> None:
    """Write the file that color_file expects."""
    lines = ["# eigenvalue, eigenvector (in the order of the channels), of pixels in [0, 1]"]
    lines += [
        " ".join(f"{number:.9g}" for number in (value, *vector))
        for value, vector in zip(values, vectors, strict=True)
    ]
    write_atomically(path, "\n".join(lines) + "\n")


def _moments(item: tuple[bytes, bytes]) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of pixels of a record, their sum (3,), and that of their products (3, 3)."""
    key, record = item
    image = decode_datum(record, key, color=True)
    if len(image) != 3:
        raise PrepError(
            f"record {key.decode('utf-8', 'replace')!r} has {len(image)} channels; "
            "colours have three: convert without -gray"
        )
    pixels = image.reshape(3, -1) / 255
    return pixels.shape[1], pixels.sum(axis=1), pixels @ pixels.T


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    values, vectors, count = color_pca(
        options.db,
        options.every,
        options.workers,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.output:
        write_color(options.output, values, vectors)
    print(f"{count} images" + (f", components in {options.output}" if options.output else ""))
    for value, vector in zip(values, vectors, strict=True):
        print(f"eigenvalue {value:.6g}, eigenvector {' '.join(f'{x:.6g}' for x in vector)}")


if __name__ == "__main__":
    run(main)
