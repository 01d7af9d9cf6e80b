"""Turn MNIST's files into a database for Caffe's Data layer.

    python data_prep/convert_mnist_data.py [-backend=lmdb|leveldb] IMAGES LABELS DB_NAME

IMAGES and LABELS are idx files, unpacked (train-images-idx3-ubyte, train-labels-idx1-ubyte). The
arguments, the keys and the records are those of the original tool.
"""

from __future__ import annotations

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
    flags.flag("backend", "lmdb", "lmdb or leveldb")
    return flags


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    pixels, labels = read_mnist(options.images, options.labels)
    with new_database(options.db, options.backend) as put:
        for number, (image, label) in enumerate(zip(pixels, labels.tolist())):
            put(b"%08d" % number, raw_datum(image.tobytes(), (1, *image.shape), label))
    print(f"{options.db}: {len(pixels)} records of {' x '.join(map(str, pixels.shape[1:]))}")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
