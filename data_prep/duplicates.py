"""Images that occur more than once in databases, found by a hash of their pixels."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from caffe_plain.database import open_database
from caffe_plain.images import printable
from relaybp.data_prep.errors import some

_EXAMPLES = 3


class Place(NamedTuple):
    """Where an image lies."""

    source: int  # which database
    record: int  # its number there, in the order of the keys
    label: int


def fingerprint(pixels: np.ndarray) -> int:
    """64 bits of the pixels (H, W) or (H, W, C), the same in whatever format they are stored."""
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    found = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=8)
    found.update(repr(shape).encode())
    return int.from_bytes(found.digest(), "little")


class Fingerprints:
    """The fingerprints of the records of some databases; add them all, then ask."""

    def __init__(self) -> None:
        self._sources: list[str] = []
        self._hashes = array("Q")
        self._places = tuple(array("q") for _ in Place._fields)

    def begin(self, source: str) -> None:
        """What is added from now on is of the database at `source`."""
        self._sources.append(source)

    def add(self, found: int, record: int, label: int) -> None:
        """Record number `record` has the fingerprint `found`."""
        self._hashes.append(found)
        for values, value in zip(self._places, (len(self._sources) - 1, record, label)):
            values.append(value)

    def repeated(self) -> Iterator[str]:
        """Yield what each database holds more than once, under one label or under several."""
        for number, source in enumerate(self._sources):
            same, several = [], []
            for group in self._groups:
                places = [place for place in group if place.source == number]
                if len(places) > 1:
                    one = len({place.label for place in places}) == 1
                    (same if one else several).append(places)
            for groups, labels in ((same, "under one label"), (several, "under several labels")):
                if groups:
                    count = sum(map(len, groups))
                    yield (
                        f"{source}: {count} records are {len(groups)} images, {labels}:\n"
                        f"{self._shown(groups)}"
                    )

    def shared(self) -> Iterator[str]:
        """Yield what each pair of databases has in common."""
        for first, second in combinations(range(len(self._sources)), 2):
            groups = [
                [place for place in group if place.source in (first, second)]
                for group in self._groups
            ]
            groups = [group for group in groups if len({place.source for place in group}) == 2]
            if groups:
                count = sum(place.source == second for group in groups for place in group)
                yield (
                    f"{count} records of {self._sources[second]} are images of "
                    f"{self._sources[first]}:\n{self._shown(groups)}\nkeep them in one of the two"
                )

    @cached_property
    def _groups(self) -> list[list[Place]]:
        """The places of each image that occurs more than once."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        same = np.diff(hashes[order]) == 0
        order = order[np.append(same, False) | np.append(False, same)] if len(same) else order[:0]
        ends = np.flatnonzero(np.diff(hashes[order])) + 1
        groups = np.split(order, ends) if len(order) else []
        return sorted([Place(*(values[k] for values in self._places)) for k in g] for g in groups)

    def _shown(self, groups: list[list[Place]]) -> str:
        """The keys and labels of the first few."""
        shown = [group[:_EXAMPLES] for group in groups[:_EXAMPLES]]
        keys = self._keys(place for group in shown for place in group)
        of = [f" of {source}" if len(self._sources) > 1 else "" for source in self._sources]
        named = {
            place: f"{printable(key)}{of[place.source]}, label {place.label}"
            for place, key in keys.items()
        }
        lines = [" = ".join(named[place] for place in group) for group in shown]
        return some(lines + groups[_EXAMPLES:], _EXAMPLES)

    def _keys(self, places: Iterable[Place]) -> dict[Place, bytes]:
        places, found = set(places), {}
        for number in {place.source for place in places}:
            wanted = {place.record: place for place in places if place.source == number}
            with (
                closing(open_database(self._sources[number])) as environment,
                environment.begin() as transaction,
                transaction.cursor() as cursor,
            ):
                for record, key in enumerate(cursor.iternext(values=False)):
                    if record in wanted:
                        found[wanted[record]] = bytes(key)
        return found
