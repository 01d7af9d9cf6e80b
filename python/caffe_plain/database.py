"""LMDBs, opened for reading so that a damaged one is an error."""

from __future__ import annotations

import os

import lmdb

from .errors import DataError


def open_database(path: str | os.PathLike, readahead: bool = True) -> lmdb.Environment:
    """The read-only LMDB at `path`: a folder that holds data.mdb, or the file itself.

    readahead: let the system read further than it is asked to; good for records in key order, bad
    for random access. Several processes may read one LMDB; in one process it can be open only once.
    Raises DataError where there is no LMDB, where the file ends before the last page that its
    header promises, or where it holds no record.

    NOTE: LMDB reads through a memory map, and a process that reads past the end of a file dies of
    SIGBUS. The size is checked here; nothing protects against a file that shrinks while it is open.
    """
    path = os.fspath(path)
    file = data_file(path)
    if not os.path.isfile(file):
        raise DataError(
            f"{path}: no LMDB; {_what_is_there(path)}; the current folder is {os.getcwd()}"
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


def data_file(path: str) -> str:
    """The file of the LMDB at `path`, which is a folder that holds it, or the file itself."""
    return os.path.join(path, "data.mdb") if os.path.isdir(path) else path


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
    if "CURRENT" in found:
        return (
            "the folder holds a LevelDB: write it again as an LMDB (convert_imageset --backend "
            "lmdb)"
        )
    return f"the folder holds {found[:5]}, not data.mdb"
