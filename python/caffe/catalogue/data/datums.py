"""Data: batches from an LMDB or LevelDB of Datums."""

import logging
import os
from contextlib import closing

import numpy as np

from caffe_plain.database import data_file, is_leveldb
from caffe_plain.errors import DataError
from caffe_plain.glog import say

from ...files.datum import decode_datum, parse_datum
from ...layer import register
from ...proto import caffe_pb2
from .database import open_database
from .prefetch import PrefetchedSource
from .records import RecordReader
from .transform import DataTransformer

MOST_DAMAGED = 100  # records that skip_damaged leaves out


@register
class Data(PrefetchedSource):
    """The records of an LMDB or LevelDB in the order of their keys, over and over.

    tops: data (batch_size, C, H, W), and labels (batch_size,) if there is a second one. Sizes are
    those of the first record, or crop_size. When several processes train, each takes its share of
    the records. Options: data_param and transform_param (see DataTransformer). Caffe's DataLayer.
    """

    top_count = (1, 2)
    param_name = "data_param"

    def setup(self, *shapes):
        options = self.options
        if not options.source or options.batch_size < 1:
            raise self.error("source (the database's folder) and batch_size must be given")
        self.ahead = options.prefetch
        self.reader = _DatumReader(self)
        if options.rand_skip:
            self.position = int(np.random.default_rng(self.seed).integers(options.rand_skip))

    def names(self, position):
        """What the records of the batch at `position` are called."""
        return self.reader.names(position)


def _check_backend(layer, source):
    """Raise an error if the prototxt says LMDB of a LevelDB, or the other way round."""
    found = "LEVELDB" if is_leveldb(source) else "LMDB"
    said = caffe_pb2.DataParameter.DB.Name(layer.options.backend)
    if found != said and os.path.exists(data_file(source)):
        raise layer.error(
            f"source {source} is of backend {found}, but the prototxt says {said} (the default is "
            f"LEVELDB); write backend: {found}"
        )


class _DatumReader(RecordReader):
    skips_damaged = False

    def __init__(self, layer):
        options = layer.options
        self._damaged = set()  # keys
        _check_backend(layer, options.source)
        super().__init__(
            layer, options.batch_size, DataTransformer(layer, options.force_encoded_color)
        )
        try:
            self.database = open_database(options.source)
        except DataError as error:
            raise DataError(f"{self.where}: source {error}") from error

    def records(self, start, step):
        path, missing = self.database.path, 0
        with closing(self.database.records(start, step)) as records:
            for key, record in records:
                try:
                    datum = parse_datum(record, key)
                    pixels = decode_datum(datum, key, self.transformer.color)
                except DataError as error:
                    missing += 1
                    self._leave_out(key, missing, f"{self.where}: {path}: {error}")
                    continue
                name = f"record {key.decode('utf-8', 'replace')!r} of {path}"
                for _ in range(missing + 1):  # in the places of those before, too
                    yield pixels, datum.label, name
                missing = 0

    def _leave_out(self, key, missing, what):
        """Say that a damaged record, the `missing`-th in a row, is left out, or raise DataError."""
        if not self.skips_damaged:
            raise DataError(what)
        if key not in self._damaged:
            self._damaged.add(key)
            say("data_layer", f"{what}; left out, number {len(self._damaged)}", logging.WARNING)
        if len(self._damaged) > MOST_DAMAGED or missing >= self.database.size:
            raise DataError(f"{what}; {len(self._damaged)} records are damaged: make it again")
