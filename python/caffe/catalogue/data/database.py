"""Databases of Datums, read in the order of their keys."""

import os
import weakref
from functools import cached_property

import lmdb

import caffe_plain.database
from caffe_plain.errors import DataError

# one process can open an LMDB only once; nets share it
_open = weakref.WeakValueDictionary()


def open_database(path):
    """The Database at `path`; if it is already open, the same one."""
    key = os.path.realpath(path)
    if key not in _open:
        _open[key] = made = Database(path)
        return made
    return _open[key]


class Database:
    """A read-only LMDB or LevelDB.

    It closes when nothing refers to it.
    """

    def __init__(self, path):
        self.path = path
        self._environment = caffe_plain.database.open_database(path)
        weakref.finalize(self, self._environment.close)

    @cached_property
    def size(self):
        """How many records there are; a LevelDB has to be read to know."""
        return self._environment.stat()["entries"]

    def records(self, start=0, step=1):
        """(key, value) of record number `start` and every `step`-th after it, over and over.

        A value is a view into the database, good until the next one is asked for.
        """
        try:
            with (
                self._environment.begin(buffers=True) as transaction,
                transaction.cursor() as cursor,
            ):
                _advance(cursor, start % self.size + 1 if start else 1)
                while True:
                    yield bytes(cursor.key()), cursor.value()
                    _advance(cursor, step)
        except lmdb.Error as error:
            raise DataError(f"{self.path}: the LMDB is damaged ({error}); make it again") from error


def _advance(cursor, count):
    for _ in range(count):
        if not cursor.next():
            cursor.first()
