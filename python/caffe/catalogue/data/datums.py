"""Data: batches from an LMDB or LevelDB of Datums."""

import os
from contextlib import closing
from functools import partial

import numpy as np

from caffe_plain.database import data_file, is_leveldb
from caffe_plain.errors import DataError

from ...files.datum import decode_datum, parse_datum
from ...layer import register
from ...proto import caffe_pb2
from .database import open_database
from .prefetch import PrefetchedSource
from .records import RecordReader
from .transform import DataTransformer


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
        self.reader = DatumReader(self)
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


class DatumReader(RecordReader):
    """Reads the records of a database; `_read` makes pixels and label of one."""

    cure = "make the database again"

    def __init__(self, layer):
        options = layer.options
        _check_backend(layer, options.source)
        super().__init__(
            layer, options.batch_size, DataTransformer(layer, options.force_encoded_color)
        )
        try:
            self.database = open_database(options.source)
        except DataError as error:
            raise DataError(f"{self.where}: source {error}") from error

    def __len__(self):
        return self.database.size

    def entries(self, start, step):
        path = self.database.path
        with closing(self.database.records(start, step)) as records:
            for key, record in records:
                name = f"record {key.decode('utf-8', 'replace')!r} of {path}"
                yield name, partial(self._read, key, record)

    def _read(self, key, record):
        try:
            datum = parse_datum(record, key)
            return decode_datum(datum, key, self.transformer.color), datum.label
        except DataError as error:
            raise DataError(f"{self.where}: {self.database.path}: {error}") from error
