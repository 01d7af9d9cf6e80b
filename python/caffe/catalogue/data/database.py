"""LMDBs of Datums, read in the order of their keys."""

import os
import weakref

import lmdb

from caffe_plain.errors import DataError

# one process can open an LMDB only once; nets share it
_open = weakref.WeakValueDictionary()


def open_database(path):
    """The Database at `path`, the one that is open already if there is one."""
    key = os.path.realpath(path)
    if key not in _open:
        _open[key] = made = Database(path)
        return made
    return _open[key]


class Database:
    """A read-only LMDB: a folder that holds data.mdb, or the file itself.

    Closed when nobody holds it any more.
    """

    def __init__(self, path):
        self.path = path
        file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
        if not os.path.isfile(file):
            raise DataError(
                f"{path}: no LMDB; {_what_is_there(path)}; the current folder is {os.getcwd()}"
            )
        try:
            self._environment = lmdb.open(
                file, subdir=False, readonly=True, lock=False, max_readers=1
            )
            stat, info = self._environment.stat(), self._environment.info()
        except lmdb.Error as error:
            raise DataError(
                f"{path}: not a readable LMDB ({error}); is it being written, or "
                "copied incompletely? make it again"
            ) from error
        weakref.finalize(self, self._environment.close)
        needed = (info["last_pgno"] + 1) * stat["psize"]
        if os.path.getsize(file) < needed:
            # NOTE: LMDB would read behind the end of the file, and the process would die of it
            raise DataError(
                f"{path}: data.mdb has {os.path.getsize(file)} bytes, its header says "
                f"{needed}; it was copied incompletely: copy or make it again"
            )
        self.size = stat["entries"]
        if not self.size:
            raise DataError(f"{path}: the LMDB is empty; make it again")

    def records(self, start=0, step=1):
        """(key, value) of record number `start` and every `step`-th after it, over and over.

        A value is a view into the database, good until the next one is asked for.
        """
        try:
            with (
                self._environment.begin(buffers=True) as transaction,
                transaction.cursor() as cursor,
            ):
                _advance(cursor, start % self.size + 1)
                while True:
                    yield bytes(cursor.key()), cursor.value()
                    _advance(cursor, step)
        except lmdb.Error as error:
            raise DataError(f"{self.path}: the LMDB is damaged ({error}); make it again") from error


def _advance(cursor, count):
    for _ in range(count):
        if not cursor.next():
            cursor.first()


def _what_is_there(path):
    if not os.path.exists(path):
        return "there is nothing at that path"
    if os.path.isdir(path) and "CURRENT" in os.listdir(path):
        return (
            "the folder holds a LevelDB: write it again as an LMDB (convert_imageset "
            "--backend lmdb)"
        )
    return f"the folder holds {sorted(os.listdir(path))[:5]}, not data.mdb"
