"""extract_features: a net's blobs over batches of its data, into an LMDB for each blob.

    extract_features weights.caffemodel net.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 10 lmdb [GPU [0]]

The net runs in the TEST phase. Record number n ("0000000000", ...) is the Datum of item n,
its features in float_data.
"""

import contextlib
import os

import lmdb
import numpy as np

from caffe_plain.errors import CaffeError, DataError
from caffe_plain.glog import say

from .. import device
from ..net import Net
from ..proto import caffe_pb2
from .flags import program, run, use_gpus

_MAP_BYTES = 1 << 40  # address space only; an LMDB takes what its records need
_COMMIT_EVERY = 1000  # records, as the original


def main(args=None):
    """Run the command line; return the exit status."""
    parser = program("extract_features", __doc__)
    for name, kind in (
        ("weights", str),
        ("net", str),
        ("blobs", str),
        ("databases", str),
        ("batches", int),
        ("db_type", str),
    ):
        parser.add_argument(name, type=kind)
    parser.add_argument("mode", nargs="?", default="CPU", choices=("CPU", "GPU"))
    parser.add_argument("device_id", nargs="?", default="0", help="0 or DEVICE_ID=0")
    return run(parser, _extract, args)


def _extract(options):
    blobs, databases = options.blobs.split(","), options.databases.split(",")
    if len(blobs) != len(databases):
        raise CaffeError(
            f"extract_features: {len(blobs)} blobs for {len(databases)} databases; "
            "give one database for each blob"
        )
    if options.db_type != "lmdb":
        raise CaffeError(f"extract_features: db_type {options.db_type!r}: expected lmdb")
    if options.mode == "GPU":
        use_gpus(options.device_id.rpartition("=")[2])
    else:
        say("extract_features", "Using CPU")
        device.set_mode_cpu()
    net = Net(options.net, caffe_pb2.TEST, weights=options.weights)
    for name in blobs:
        net._blob(name)
    with contextlib.ExitStack() as stack:
        writers = [
            (name, stack.enter_context(_Writer(path)))
            for name, path in zip(blobs, databases, strict=True)
        ]
        say("extract_features", "Extracting Features")
        for _ in range(options.batches):
            net._forward(0, len(net.nodes) - 1)
            for name, writer in writers:
                writer.add(net.blobs[name].data)
    for name, writer in writers:
        say(
            "extract_features",
            f"Extracted features of {writer.count} query images for feature blob {name}",
        )
    say("extract_features", "Successfully extracted the features!")


class _Writer:
    """A new LMDB that takes one record for each item of a blob."""

    def __init__(self, path):
        say("extract_features", f"Opening dataset {path}")
        if os.path.exists(path):
            raise DataError(f"{path}: is already there; name a new database or delete this one")
        self.path, self.count = path, 0

    def __enter__(self):
        self.environment = lmdb.open(self.path, map_size=_MAP_BYTES)
        self.transaction = self.environment.begin(write=True)
        return self

    def __exit__(self, kind, *_):
        (self.transaction.commit if kind is None else self.transaction.abort)()
        self.environment.close()

    def add(self, items):
        """Append each of `items` (N, ...) as a Datum of up to three axes; a number is one item."""
        items = np.atleast_1d(items)
        shape = (*items.shape[1:], 1, 1, 1)[:3]
        if items.ndim > 4:
            raise CaffeError(
                f"{self.path}: a blob of shape {items.shape} has too many axes for a "
                "Datum; expected at most (N, channels, height, width)"
            )
        for item in items:
            datum = caffe_pb2.Datum(channels=shape[0], height=shape[1], width=shape[2])
            datum.float_data.extend(item.ravel())
            self.transaction.put(b"%010d" % self.count, datum.SerializeToString())
            self.count += 1
            if self.count % _COMMIT_EVERY == 0:
                self.transaction.commit()
                self.transaction = self.environment.begin(write=True)
