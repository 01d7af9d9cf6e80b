"""Batches made by a separate thread while the net computes."""

import math
import queue
import threading
import weakref
import zlib

from caffe_plain.memory import amount, limit_bytes

from ... import device
from .source import Source


class PrefetchedSource(Source):
    """A layer whose batches a thread makes; subclasses set `self.reader` in setup.

    The reader has `shapes`, the shapes of the tops; `batches(position)`, which yields pairs of a
    batch and the position after it, in the thread; and `finish(batch)`, the tensors of the tops.
    It must not refer to the layer, which could then never be freed.
    """

    ahead = 4  # batches
    _prefetcher = None
    _position = 0

    @property
    def position(self):
        """The number of the record that comes next, counted on over the epochs.

        Set it (after the seed) to continue where another run stopped, with the same records, crops
        and mirrors.
        """
        return self._position

    @position.setter
    def position(self, position):
        self.close()
        self.reader.seed = self.seed
        self._position = int(position)

    @property
    def seed(self):
        """The seed of this layer's draws: follows from set_random_seed and the layer's name."""
        return [device.seed(), zlib.crc32(self.name.encode())]

    @property
    def share(self):
        """(rank, count): when several processes train, each takes its share of the records."""
        return (device.solver_rank(), device.solver_count()) if self.training else (0, 1)

    def reshape(self, *shapes):
        if self.given:
            return [blob.shape for blob in self.tops]
        self.given = True
        shapes = self.reader.shapes[: len(self.tops)]
        self._check_ahead(sum(map(math.prod, shapes)) * 4)
        return shapes

    def _check_ahead(self, batch_bytes):
        """Refuse to read more batches ahead than can ever be in memory."""
        most = max(limit_bytes() // max(batch_bytes, 1), PrefetchedSource.ahead)
        if self.ahead > most:
            raise self.error(
                f"prefetch: {self.ahead:,} batches of {amount(batch_bytes)}; this process may "
                f"have {amount(limit_bytes())}: give at most {most:,} "
                f"({PrefetchedSource.ahead} are usual)"
            )

    def forward(self):
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self.reader.batches(self._position), self.ahead)
        try:
            batch, position = self._prefetcher.get()
        except Exception:
            self.close()  # the next forward tries again, from the same record
            raise
        self._position = position
        return tuple(self.reader.finish(batch)[: len(self.tops)])

    def close(self):
        """Stop reading ahead."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None


class Prefetcher:
    """Runs a generator in a thread, `ahead` items ahead; what it raises surfaces in `get`.

    `close` ends its thread. This also happens when nothing refers to the Prefetcher and when the
    interpreter exits.
    """

    def __init__(self, items, ahead):
        self._queue = queue.Queue(max(ahead, 1))
        stop = threading.Event()
        thread = threading.Thread(target=_fill, args=(items, self._queue, stop), daemon=True)
        self.close = weakref.finalize(self, _close, thread, stop)
        thread.start()

    def get(self):
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item


def _fill(items, filled, stop):
    try:
        for item in items:
            if not _put(item, filled, stop):
                break
    except Exception as error:  # whatever it is, the net's thread must be told
        _put(error, filled, stop)
    finally:
        items.close()


def _put(item, filled, stop):
    """Put `item` once there is room; False if the Prefetcher was closed first."""
    while not stop.is_set():
        try:
            filled.put(item, timeout=0.1)
            return True
        except queue.Full:
            pass
    return False


def _close(thread, stop):
    stop.set()
    if thread is not threading.current_thread():  # the garbage collector may run in any thread
        thread.join()
