"""Batches from a sequence of labelled images: what Data and ImageData share."""

import logging
from contextlib import closing, contextmanager
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import torch

from caffe_plain.errors import DataError
from caffe_plain.glog import say

from ... import device
from .transform import FORCE_COLOR

MOST_DAMAGED = 100  # records that skip_damaged leaves out

_skips_damaged = False


@contextmanager
def skipping_damaged(wanted=True):
    """Readers that are made inside leave damaged records out, if that is wanted."""
    global _skips_damaged
    before, _skips_damaged = _skips_damaged, wanted
    try:
        yield
    finally:
        _skips_damaged = before


class Batch(NamedTuple):
    """What the reader's thread hands over."""

    pixels: torch.Tensor  # (N, C, H, W), uint8 or float32
    places: torch.Tensor  # (N, 3): where DataTransformer.cut found each record
    labels: torch.Tensor  # (N,) float


class RecordReader:
    """Cuts and stacks the records that `entries(start, step)` of a subclass names and reads.

    An entry is (name for messages, what returns the record's pixels (C, H, W) and label or raises
    DataError); record numbers go on over the epochs. `len` is that of an epoch, cure: what to do
    about damaged ones.
    """

    cure = ""

    def __init__(self, layer, batch_size, transformer):
        self._skips, self._damaged = _skips_damaged, set()  # names
        self.where = f"layer {layer.name!r} ({layer.type})"
        self.batch_size, self.transformer = batch_size, transformer
        self.seed, (self.rank, self.step) = layer.seed, layer.share

    @property
    def shapes(self):
        """The shapes of data and labels: those of the first record stand for all."""
        with closing(self.records(0, 1)) as records:
            pixels, _, name = next(records)
        return [(self.batch_size, *self.transformer.shape(pixels.shape, name)), (self.batch_size,)]

    def records(self, start, step):
        """(pixels (C, H, W), label, name) of record number `start` and every `step`-th after it.

        In the place of those that are left out come the next ones, so that numbers stay.
        """
        missing = 0
        with closing(self.entries(start, step)) as entries:
            for name, read in entries:
                try:
                    pixels, label = read()
                except DataError as error:
                    missing += 1
                    self._leave_out(name, missing, error)
                    continue
                for _ in range(missing + 1):
                    yield pixels, label, name
                missing = 0

    def _leave_out(self, name, missing, error):
        """Say that a damaged record, the `missing`-th in a row, is left out, or raise DataError."""
        if not self._skips:
            raise error
        if name not in self._damaged:
            self._damaged.add(name)
            say("data_layer", f"{error}; left out, number {len(self._damaged)}", logging.WARNING)
        if len(self._damaged) > MOST_DAMAGED or missing >= len(self):
            raise DataError(f"{error}; {len(self._damaged)} records are damaged: {self.cure}")

    def batches(self, position):
        with closing(self.records(position + self.rank, self.step)) as records:
            while True:
                # each batch has its own draws, so that a run can continue from any position
                draws = np.random.default_rng([*self.seed, 0, position, self.rank])
                position += self.batch_size * self.step
                yield self._batch(list(islice(records, self.batch_size)), draws), position

    def names(self, position):
        """What the records of the batch at `position` are called."""
        with closing(self.records(position + self.rank, self.step)) as records:
            return [name for _, _, name in islice(records, self.batch_size)]

    def _batch(self, records, draws):
        cuts, places, first = [], [], None
        for (pixels, _, name), draw in zip(records, draws.random((len(records), 3)), strict=True):
            shape = self.transformer.shape(pixels.shape, name)
            first = first or (shape, name)
            if shape != first[0]:
                cure = "resize all to one size, or give crop_size or batch_size: 1"
                raise DataError(
                    f"{self.where}: {name} has (channels, height, width) {shape}, but {first[1]} "
                    f"in the same batch {first[0]}; "
                    + (FORCE_COLOR if shape[0] != first[0][0] else cure)
                )
            cut, place = self.transformer.cut(pixels, draw)
            cuts.append(cut)
            places.append(place)
        labels = [label for _, label, _ in records]
        return Batch(
            stack(cuts, places),
            device.staged(torch.tensor(places)),
            device.staged(torch.tensor(labels, dtype=torch.float32)),
        )

    def finish(self, batch):
        data = self.transformer.finish(batch.pixels, batch.places)
        return [data, device.upload(batch.labels).to(device.master_dtype())]


def stack(cuts, places):
    """Cut records (C, H, W) of one shape as a tensor (N, C, H, W), mirrored as `places` say."""
    channels, height, width = cuts[0].shape
    dtype = np.result_type(*{cut.dtype for cut in cuts})
    batch = np.empty((len(cuts), height, width, channels), dtype)
    for into, cut, (mirrored, _, _) in zip(batch, cuts, places, strict=True):
        into[...] = _interleaved(cut, mirrored).reshape(into.shape)
    return device.staged(torch.from_numpy(batch.transpose(0, 3, 1, 2)))  # channels last


def _interleaved(cut, mirrored):
    """`cut` (C, H, W) as (H, W, C), mirrored or not; OpenCV is many times faster than numpy."""
    if len(cut) > 4:  # no image
        pixels = cut.transpose(1, 2, 0)
        return pixels[:, ::-1] if mirrored else pixels
    planes_apart = cut.strides[0] > cut.strides[2]
    pixels = cv2.merge(list(cut)) if planes_apart else cut.transpose(1, 2, 0)
    return cv2.flip(pixels, 1) if mirrored else pixels
