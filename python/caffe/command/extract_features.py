"""extract_features: a net's blobs over batches of its data, into a database for each blob.

    extract_features weights.caffemodel net.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 10 lmdb [GPU [0]]

The net runs in the TEST phase. Record number n ("0000000000", ...) is the Datum of item n,
its features in float_data.
"""

import contextlib

import numpy as np

from caffe_plain.database import new_database
from caffe_plain.errors import CaffeError
from caffe_plain.glog import say

from .. import device
from ..net import Net
from ..proto import caffe_pb2
from .flags import net_program, run, use_gpus


def main(args=None):
    """Run the command line; return the exit status."""
    parser = net_program("extract_features", __doc__)
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
    if options.batches < 1:
        raise CaffeError(f"extract_features: {options.batches} batches; expected at least 1")
    if options.mode == "GPU":
        use_gpus(options.device_id.rpartition("=")[2])
    else:
        say("extract_features", "Using CPU")
        device.set_mode_cpu()
    net = Net(options.net, caffe_pb2.TEST, weights=options.weights)
    for name in blobs:
        net._blob(name)
    net.keep_blobs = blobs
    with contextlib.ExitStack() as stack:
        writers = [
            (name, _Writer(path, stack.enter_context(new_database(path, options.db_type))))
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
    """Puts one record for each item of a blob into a new database."""

    def __init__(self, path, put):
        say("extract_features", f"Opening dataset {path}")
        self.path, self.put, self.count = path, put, 0

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
            self.put(b"%010d" % self.count, datum.SerializeToString())
            self.count += 1
