"""LMDBs and LevelDBs, Caffe's databases: opened for reading, and made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Callable, Union

import lmdb

from . import leveldb
from .errors import DataError
from .files import complete_folder
from .leveldb import LevelDB, write_leveldb

_MAP_BYTES = 1 << 40  # address space only; an LMDB takes what its records need
_COMMIT_EVERY = 1000  # records, as the original
Environment = Union[lmdb.Environment, LevelDB]
Cursor = Union[lmdb.Cursor, leveldb.Cursor]


def open_database(path: str | os.PathLike, readahead: bool = True) -> Environment:
    """The read-only database at `path`: a folder of an LMDB or LevelDB, or data.mdb.

    readahead: let the system read further than it is asked to; good for records in key order, bad
    for random access. Several processes may read one database; in one process an LMDB can be open
    only once. Raises DataError where there is no database, where a file ends before what is
    promised of it, or where there is no record.

    NOTE: LMDB reads through a memory map, and a process that reads past the end of a file dies of
    SIGBUS. The size is checked here; nothing protects against a file that shrinks while it is open.
    """
    path = os.fspath(path)
    if is_leveldb(path):
        return _open_leveldb(path)
    file = data_file(path)
    if not os.path.isfile(file):
        raise DataError(
            f"{path}: no LMDB or LevelDB; {_what_is_there(path)}; "
            f"the current folder is {os.getcwd()}"
        )
    try:
        environment = lmdb.open(file, subdir=False, readonly=True, lock=False, readahead=readahead)
    except lmdb.Error as error:
        raise DataError(
            f"{path}: not a readable LMDB ({error}); is it being written, or copied incompletely? "
            "make it again"
        ) from error
    problem = _problem(environment, file)
    if problem:
        environment.close()
        raise DataError(f"{path}: {problem}")
    return environment


def count_records(path: str | os.PathLike) -> int:
    """How many records the database at `path` holds; raises as `open_database` does."""
    with closing(open_database(path)) as environment:
        return int(environment.stat()["entries"])


@contextmanager
def new_database(
    path: str | os.PathLike, backend: str = "lmdb"
) -> Iterator[Callable[[bytes, bytes], object]]:
    """Make the database `path`, whole or not at all; yields put(key, value).

    backend: "lmdb" or "leveldb". Raises DataError if `path` is there or cannot be made.
    """
    if backend not in _WRITERS:
        raise DataError(f"{path}: unknown backend {backend!r}; expected lmdb or leveldb")
    with complete_folder(path) as partial, _WRITERS[backend](partial) as put:
        yield put


def is_leveldb(path: str) -> bool:
    """Whether `path` is the folder of a LevelDB."""
    return os.path.isfile(os.path.join(path, "CURRENT"))


def data_file(path: str) -> str:
    """The file that a database at `path` is read from, or first: `path` is its folder, or it."""
    if is_leveldb(path):
        return os.path.join(path, "CURRENT")
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


def _open_leveldb(path: str) -> LevelDB:
    database = LevelDB(path)
    if next(database.records(), None) is None:
        raise DataError(f"{path}: the LevelDB is empty; make it again")
    return database


@contextmanager
def _write_lmdb(folder: str | os.PathLike) -> Iterator[Callable[[bytes, bytes], object]]:
    with _new_lmdb(os.fspath(folder)) as environment:
        records: list[tuple[bytes, bytes]] = []

        def put(key: bytes, value: bytes) -> None:
            records.append((key, value))
            if len(records) == _COMMIT_EVERY:
                commit()

        def commit() -> None:
            try:
                with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(records)
            except lmdb.Error as error:
                raise DataError(f"{folder}: a record cannot be written: {error}") from error
            records.clear()

        yield put
        commit()


def _new_lmdb(folder: str) -> lmdb.Environment:
    """An LMDB that nobody else writes: its file of locks would end this process on a full disk."""
    try:
        return lmdb.open(folder, map_size=_MAP_BYTES, lock=False)
    except lmdb.Error as error:
        raise DataError(f"{folder}: an LMDB cannot be made: {error}") from error


_WRITERS = {"lmdb": _write_lmdb, "leveldb": write_leveldb}


def _problem(environment: lmdb.Environment, file: str) -> str:
    stat, found = environment.stat(), os.path.getsize(file)
    needed = (environment.info()["last_pgno"] + 1) * stat["psize"]
    if found < needed:
        return (
            f"data.mdb has {found} bytes, its header says {needed}; it was copied incompletely: "
            "copy or make it again"
        )
    return "" if stat["entries"] else "the LMDB is empty; make it again"


def _what_is_there(path: str) -> str:
    if os.path.exists(f"{path}.partial"):
        return f"its conversion has not finished: {path}.partial is there"
    if not os.path.exists(path):
        return "there is nothing at that path"
    if not os.path.isdir(path):
        return "what is there is neither a folder nor a file"
    found = sorted(os.listdir(path))
    return f"the folder holds {found[:5]}, neither data.mdb nor CURRENT"
