"""Batches made by a thread of their own while the net computes."""

import queue
import threading
import weakref
import zlib
from typing import NamedTuple

import numpy as np
import torch

from .. import device
from .data import Source


class Batch(NamedTuple):
    """What a reader's thread hands over."""

    pixels: torch.Tensor   # (N, C, H, W), uint8 or float32
    places: torch.Tensor   # (N, 3): where DataTransformer.cut found each record
    labels: torch.Tensor   # (N,) float
    next_position: int     # of the record after this batch


class PrefetchedSource(Source):
    """A layer whose batches a Prefetcher makes; subclasses set `self.reader` in setup.

    The reader has `transformer`, `shape` (of the batches so far) and `batches(position)`, which
    yields Batches; it must not know the layer.
    """

    top_count = (1, 2)
    ahead = 4  # batches
    _prefetcher = None
    _position = 0

    @property
    def position(self):
        """The number of the record that comes next, counted on over the epochs.

        Set it (and the seed) to continue where another run was: with the same records, crops and
        mirrors.
        """
        return self._position

    @position.setter
    def position(self, position):
        self.close()
        self._position = int(position)

    @property
    def seed(self):
        """The seed of this layer's draws: follows from set_random_seed and the layer's name."""
        return [device.generator().initial_seed(), zlib.crc32(self.name.encode())]

    def reshape(self, *shapes):
        if self.given:
            return [blob.shape for blob in self.tops]
        self.given = True
        return [self.reader.shape, self.reader.shape[:1]][:len(self.tops)]

    def forward(self):
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self.reader.batches(self._position), self.ahead)
        try:
            batch = self._prefetcher.get()
        except Exception:
            self.close()  # the next forward tries again, from the same record
            raise
        self._position = batch.next_position
        data = self.reader.transformer.finish(batch.pixels, batch.places)
        labels = device.upload(batch.labels).to(device.master_dtype())
        return (data, labels)[:len(self.tops)]

    def close(self):
        """Stop reading ahead."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None


class Prefetcher:
    """Runs a generator in a thread, `ahead` items ahead; what it raises surfaces in `get`.

    Its thread ends with `close`, which also happens when nobody holds the Prefetcher any more
    and when the interpreter exits.
    """

    def __init__(self, items, ahead):
        self._queue = queue.Queue(max(ahead, 1))
        stop = threading.Event()
        thread = threading.Thread(target=_fill, args=(items, self._queue, stop), daemon=True)
        self.close = weakref.finalize(self, _close, thread, self._queue, stop)
        thread.start()

    def get(self):
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item


def _fill(items, filled, stop):
    try:
        for item in items:
            filled.put(item)
            if stop.is_set():
                break
    except Exception as error:  # whatever it is, the net's thread must hear of it
        filled.put(error)
    finally:
        items.close()


def _close(thread, filled, stop):
    stop.set()
    while thread.is_alive():
        try:  # a full queue holds the thread up
            filled.get(timeout=0.01)
        except queue.Empty:
            thread.join(0.01)


def stack(cuts):
    """Cut records (C, H, W) of one shape as a tensor (N, C, H, W), in the layout they have."""
    first = cuts[0]
    dtype = np.result_type(*{cut.dtype for cut in cuts})
    shape = (len(cuts), *first.shape)
    if first.strides[0] < abs(first.strides[2]):  # pixels side by side, as OpenCV decodes them
        batch = np.empty((shape[0], shape[2], shape[3], shape[1]), dtype).transpose(0, 3, 1, 2)
    else:
        batch = np.empty(shape, dtype)
    for into, cut in zip(batch, cuts, strict=True):
        into[...] = cut
    return device.staged(torch.from_numpy(batch))
