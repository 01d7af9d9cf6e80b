"""Turn CIFAR-10's binary files into two databases for Caffe's Data layer.

    python data_prep/convert_cifar_data.py INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb

INPUT_FOLDER holds data_batch_1.bin to data_batch_5.bin and test_batch.bin. Makes
OUTPUT_FOLDER/cifar10_train_lmdb and cifar10_test_lmdb, or ..._leveldb. The arguments, the keys and
the records are those of the original tool. cifar.py does more: CIFAR-100, archives as downloaded,
a whole data folder.
"""

from __future__ import annotations

from pathlib import Path

from caffe_plain.database import new_database
from caffe_plain.flags import FlagParser
from relaybp.data_prep.cifar import SHAPE, read_binary
from relaybp.data_prep.datum_db import raw_datum
from relaybp.data_prep.errors import run

SPLITS = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("source", metavar="INPUT_FOLDER", type=Path)
    flags.add_argument("out", metavar="OUTPUT_FOLDER", type=Path)
    flags.add_argument("backend", metavar="lmdb|leveldb")
    return flags


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    for split, files in SPLITS.items():
        db, number = options.out / f"cifar10_{split}_{options.backend}", 0
        with new_database(db, options.backend) as put:
            for file in files:
                pixels, labels = read_binary(1, 0, options.source / file)
                for image, label in zip(pixels, labels.tolist()):
                    put(b"%05d" % number, raw_datum(image.tobytes(), SHAPE, label))
                    number += 1
        print(f"{db}: {number} records")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
