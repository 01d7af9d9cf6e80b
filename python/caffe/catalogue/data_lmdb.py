"""Data: batches from an LMDB of Datums."""

import numpy as np
import torch

from .. import device
from ..datum import decode_datum, parse_datum
from ..errors import DataError
from ..layer import register
from ..proto import caffe_pb2
from .database import open_database
from .prefetch import Batch, PrefetchedSource, stack
from .transform import DataTransformer


@register
class Data(PrefetchedSource):
    """The records of an LMDB in the order of their keys, over and over.

    tops: data (batch_size, C, H, W), and labels (batch_size,) if there is a second one. Sizes are
    those of the first record, or crop_size. Training with several processes, each takes its
    share of the records. Options: data_param and transform_param (see DataTransformer). Caffe's
    DataLayer.
    """

    param_name = "data_param"

    def setup(self, *shapes):
        options = self.options
        if not options.source or options.batch_size < 1:
            raise self.error("source (the LMDB's folder) and batch_size must be given")
        if options.backend != caffe_pb2.DataParameter.LMDB:
            raise self.error("backend LEVELDB (the default) cannot be read; make an LMDB with "
                             "convert_imageset --backend lmdb and say backend: LMDB")
        try:
            database = open_database(options.source)
        except DataError as error:
            raise DataError(f"layer {self.name!r} (Data): source {error}") from error
        self.ahead = options.prefetch
        self.reader = _Reader(database, options.batch_size, self.seed,
                              DataTransformer(self, options.force_encoded_color), self.training)
        if options.rand_skip:
            self.position = int(np.random.default_rng(self.seed).integers(options.rand_skip))


class _Reader:
    """Reads, decodes and cuts the records of a Data layer."""

    def __init__(self, database, batch_size, seed, transformer, shared):
        self.database, self.batch_size = database, batch_size
        self.seed, self.transformer = seed, transformer
        self.step = device.solver_count() if shared else 1
        self.rank = device.solver_rank() if shared else 0
        pixels, _, name = self._decode(*next(database.records()))
        self.shape = (batch_size, *transformer.shape(pixels.shape, name))

    def batches(self, position):
        records = self.database.records(position + self.rank, self.step)
        while True:
            # each batch has draws of its own, so that any position can be continued from
            rng = np.random.default_rng([*self.seed, position, self.rank])
            position += self.batch_size * self.step
            yield self._batch(records, rng.random((self.batch_size, 3)), position)

    def _batch(self, records, draws, next_position):
        cuts, places, labels, first = [], [], [], None
        for draw, (key, record) in zip(draws, records, strict=False):
            pixels, label, name = self._decode(key, record)
            shape = self.transformer.shape(pixels.shape, name)
            first = first or (shape, name)
            if shape != first[0]:
                raise DataError(
                    f"{self.transformer.where}: {self.database.path}: {name} has (channels, "
                    f"height, width) {shape}, but {first[1]} in the same batch {first[0]}; resize "
                    "all records to one size, or give crop_size or batch_size: 1")
            cut, place = self.transformer.cut(pixels, draw)
            cuts.append(cut)
            places.append(place)
            labels.append(label)
        return Batch(stack(cuts), device.staged(torch.tensor(places)),
                     device.staged(torch.tensor(labels, dtype=torch.float32)), next_position)

    def _decode(self, key, record):
        """Pixels (C, H, W), label and name of a record."""
        try:
            datum = parse_datum(record, key)
            pixels = decode_datum(datum, key, self.transformer.color)
        except DataError as error:
            raise DataError(f"{self.transformer.where}: {self.database.path}: "
                            f"{error}") from error
        return pixels, datum.label, f"record {key.decode('utf-8', 'replace')!r}"
