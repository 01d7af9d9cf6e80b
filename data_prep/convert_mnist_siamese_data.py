"""Turn MNIST's files into a LevelDB of pairs of images, for examples/siamese.

    python data_prep/convert_mnist_siamese_data.py [-seed=0] IMAGES LABELS DB_NAME

IMAGES and LABELS are idx files, unpacked (train-images-idx3-ubyte, train-labels-idx1-ubyte). As
many pairs as images are drawn, with replacement: the two images are the channels of a record, whose
label is 1 if theirs are equal, else 0. The arguments, the backend and the keys are those of the
original tool, which draws other pairs in every run.
"""

from __future__ import annotations

import numpy as np

from caffe_plain.database import new_database
from caffe_plain.flags import FlagParser
from relaybp.data_prep.datum_db import raw_datum
from relaybp.data_prep.errors import run
from relaybp.data_prep.idx import read_mnist


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("images", metavar="IMAGES")
    flags.add_argument("labels", metavar="LABELS")
    flags.add_argument("db", metavar="DB_NAME", help="folder to make")
    flags.flag("backend", "leveldb", "lmdb or leveldb")
    flags.flag("seed", 0, "of the draws")
    return flags


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    pixels, labels = read_mnist(options.images, options.labels)
    pairs = np.random.default_rng(options.seed).integers(len(pixels), size=(len(pixels), 2))
    with new_database(options.db, options.backend) as put:
        for number, pair in enumerate(pairs):
            same = int(labels[pair[0]] == labels[pair[1]])
            put(b"%08d" % number, raw_datum(pixels[pair].tobytes(), pixels[pair].shape, same))
    print(f"{options.db}: {len(pairs)} pairs of {' x '.join(map(str, pixels.shape[1:]))}")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
