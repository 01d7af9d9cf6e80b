"""Which record comes next: the orders in which a data layer takes the records of a database.

An order has no state: `draw(positions)` gives the record of any position in the endless sequence
of draws, so a run continues from a position alone, and processes that take every n-th position
share the sequence without overlap. The shuffles come from numpy's RandomState, whose stream is the
same in every numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CHUNK = 1 << 20  # labels sorted at a time: bounds the memory
_CLASSES, _IMAGES, _EPOCHS = range(3)  # what a shuffle is of; part of its seed


class KeyOrder:
    """The records in the order of their keys, over and over."""

    def __init__(self, count: int) -> None:
        self.count = count

    def draw(self, positions: np.ndarray) -> np.ndarray:
        """The record numbers at `positions` (N,) of the sequence."""
        return np.asarray(positions, np.int64) % self.count


class ShuffledOrder:
    """Every record once per epoch, each epoch in its own order."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self._shuffles = count, _Shuffles(seed)
        self._epochs: dict[int, Any] = {}

    def draw(self, positions: np.ndarray) -> np.ndarray:
        """The record numbers at `positions` (N,) of the sequence."""
        epochs, places = np.divmod(np.asarray(positions, np.int64), self.count)
        records = np.empty(len(epochs), np.int64)
        needed = np.unique(epochs).tolist()
        self._epochs = {epoch: self._epochs.get(epoch) for epoch in needed}
        for epoch in needed:
            if self._epochs[epoch] is None:
                order = self._shuffles.permutation(self.count, _EPOCHS, epoch)
                self._epochs[epoch] = order.astype(np.int32)
            now = epochs == epoch
            records[now] = self._epochs[epoch][places[now]]
        return records


class ClassAware:
    """Class-aware sampling: the next class of a list of classes, then that class's next image.

    At the end of the class list it is shuffled; at the end of a class's image list that list is
    shuffled. All lists start out shuffled. Every round over the classes therefore takes each of
    them once, and draw number `round` of a class is image `round % size` of its list after `round
    // size` shuffles. Shen, Lin, Huang, 2016, section 4.1.

    labels: the label (N,) of every record. Memory: 8 bytes a record.
    """

    def __init__(self, labels: np.ndarray, seed: int = 0) -> None:
        self._shuffles = _Shuffles(seed)
        self._members, sizes = _by_class(np.asarray(labels))
        self.classes = np.flatnonzero(sizes)  # the labels that have records
        self.sizes = sizes[self.classes]
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._lists = np.empty_like(self._members)  # the image lists, one after the other
        self._passes = np.full(len(self.classes), -1, np.int64)  # shuffles each has had
        self._rounds: dict[int, Any] = {}  # round -> the class list

    def draw(self, positions: np.ndarray) -> np.ndarray:
        """The record numbers at `positions` (N,) of the sequence."""
        rounds, slots = np.divmod(np.asarray(positions, np.int64), len(self.classes))
        classes = self._classes_at(rounds, slots)
        passes, places = np.divmod(rounds, self.sizes[classes])
        places += self._starts[classes]
        records, todo = np.empty(len(places), np.int64), np.arange(len(places))
        while len(todo):  # again if a class reaches the end of its list on the way
            self._shuffle(classes[todo], passes[todo])
            ready = self._passes[classes[todo]] == passes[todo]
            now = todo[ready]
            records[now] = self._lists[places[now]]
            todo = todo[~ready]
        return records

    def _classes_at(self, rounds: np.ndarray, slots: np.ndarray) -> np.ndarray:
        needed, which = np.unique(rounds, return_inverse=True)
        lists = {now: self._rounds.get(now) for now in needed.tolist()}
        for now, order in lists.items():
            if order is None:
                lists[now] = self._shuffles.permutation(len(self.classes), _CLASSES, now)
        self._rounds = lists
        return np.stack(list(lists.values()))[which, slots]

    def _shuffle(self, classes: np.ndarray, passes: np.ndarray) -> None:
        """Bring the image list of each class to the first pass that is asked of it."""
        for index in np.unique(classes[self._passes[classes] != passes]).tolist():
            number = int(passes[classes == index].min())
            if number != self._passes[index]:
                start, size = self._starts[index], self.sizes[index]
                order = self._shuffles.permutation(size, _IMAGES, index, number)
                self._lists[start : start + size] = self._members[start : start + size][order]
                self._passes[index] = number


class _Shuffles:
    """Permutations determined by a seed and a few numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
        self._random = np.random.RandomState()

    def permutation(self, count: int, *numbers: int) -> np.ndarray:
        # seeding one generator again is ten times faster than making another
        self._random.seed([*self._seed, *numbers])
        return self._random.permutation(count)


def _by_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The record numbers (int32) class by class, each in ascending order, and the counts."""
    sizes = np.zeros(int(labels.max()) + 1, np.int64)
    for start in range(0, len(labels), _CHUNK):
        sizes += np.bincount(labels[start : start + _CHUNK], minlength=len(sizes))
    free = np.cumsum(sizes) - sizes  # where the next record of each class goes
    members = np.empty(len(labels), np.int32)
    narrow = np.uint16 if len(sizes) <= 1 << 16 else labels.dtype  # sorts in linear time
    for start in range(0, len(labels), _CHUNK):
        chunk = labels[start : start + _CHUNK].astype(narrow)
        order = np.argsort(chunk, kind="stable")
        chunk, counts = chunk[order], np.bincount(chunk, minlength=len(sizes))
        within = np.arange(len(chunk)) - (np.cumsum(counts) - counts)[chunk]
        members[free[chunk] + within] = order + start
        free += counts
    return members, sizes
