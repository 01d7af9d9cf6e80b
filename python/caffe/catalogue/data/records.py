"""Batches from a sequence of labelled images: what Data and ImageData share."""

from contextlib import closing
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import torch

from caffe_plain.errors import DataError

from ... import device


class Batch(NamedTuple):
    """What the reader's thread hands over."""

    pixels: torch.Tensor  # (N, C, H, W), uint8 or float32
    places: torch.Tensor  # (N, 3): where DataTransformer.cut found each record
    labels: torch.Tensor  # (N,) float


class RecordReader:
    """Cuts and stacks the records that `records(start, step)` of a subclass yields.

    A record is (pixels (C, H, W), label, name for messages); record numbers go on over the
    epochs.
    """

    def __init__(self, layer, batch_size, transformer):
        self.where = f"layer {layer.name!r} ({layer.type})"
        self.batch_size, self.transformer = batch_size, transformer
        self.seed, (self.rank, self.step) = layer.seed, layer.share

    @property
    def shapes(self):
        """The shapes of data and labels: those of the first record stand for all."""
        with closing(self.records(0, 1)) as records:
            pixels, _, name = next(records)
        return [(self.batch_size, *self.transformer.shape(pixels.shape, name)), (self.batch_size,)]

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
                raise DataError(
                    f"{self.where}: {name} has (channels, height, width) {shape}, but {first[1]} "
                    f"in the same batch {first[0]}; resize all to one size, or give crop_size or "
                    "batch_size: 1"
                )
            cut, place = self.transformer.cut(pixels, draw)
            cuts.append(cut)
            places.append(place)
        labels = [label for _, label, _ in records]
        return Batch(
            _stack(cuts, places),
            device.staged(torch.tensor(places)),
            device.staged(torch.tensor(labels, dtype=torch.float32)),
        )

    def finish(self, batch):
        data = self.transformer.finish(batch.pixels, batch.places)
        return [data, device.upload(batch.labels).to(device.master_dtype())]


def _stack(cuts, places):
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
