"""The ring of batches between the worker processes of a SceneData layer and its forward."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from . import draws
from .class_aware import ClassAware, KeyOrder, ShuffledOrder
from .crops import COLUMNS
from .scene_pool import Pool

HELD = 2  # batches that a GPU may still be fetching while the next ones are filled


class Batch(NamedTuple):
    """N records, cut and mirrored."""

    pixels: np.ndarray  # (N, h, w, C) uint8, in shared memory
    places: np.ndarray  # (N, 3) mirrored, top, left
    labels: np.ndarray  # (N,)
    positions: np.ndarray  # (N,) of the draws


class Feeder:
    """Hands out batches from `position` on; the share (rank, count) says which draws are its own.

    order: gives the records at positions, see class_aware; labels: of all records.
    """

    def __init__(
        self,
        pool: Pool,
        order: KeyOrder | ShuffledOrder | ClassAware,
        labels: np.ndarray,
        seed: int,
        share: tuple[int, int],
        position: int,
    ) -> None:
        self.pool, self._order, self._labels, self._seed = pool, order, labels, seed
        self._rank, self._count = share
        self.position = position  # of the draw after those that were handed out
        self._submitted = position
        slots, self._size = pool.slots.records.shape
        self._free, self._filling, self._held = deque(range(slots)), deque(), deque()

    def next(self) -> Batch:
        """The next Batch; what it holds is good until two more have been handed out.

        And until the event given to `free_after` has passed: this waits for that of two before.
        """
        if len(self._held) == HELD:
            slot, event = self._held.popleft()
            if event is not None:
                event.synchronize()
            self._free.append(slot)
        while self._free:
            self._submit(self._free.popleft())
        slot, positions = self._filling.popleft()
        self.pool.wait(slot)
        self._held.append((slot, None))
        self.position += self._size * self._count
        slots = self.pool.slots
        return Batch(
            slots.pixels[slot], slots.places[slot], self._labels[slots.records[slot]], positions
        )

    def free_after(self, event: Any) -> None:
        """Keep the last Batch until a CUDA event has passed, too; None: there is none."""
        slot, _ = self._held.pop()
        self._held.append((slot, event))

    def _submit(self, slot: int) -> None:
        first = self._submitted + self._rank
        positions = np.arange(first, first + self._size * self._count, self._count)
        self._submitted += self._size * self._count
        slots = self.pool.slots
        slots.records[slot] = self._order.draw(positions)
        slots.draws[slot] = draws.uniform(self._seed, positions, len(COLUMNS))
        self.pool.submit(slot)
        self._filling.append((slot, positions))
