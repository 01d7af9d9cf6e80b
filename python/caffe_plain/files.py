"""Files that are either complete or not there: nothing half-written is ever left behind."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from .errors import DataError, reason

Buffer = Union[bytes, bytearray, memoryview]


def write_atomically(path: str | os.PathLike, data: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8. Raises DataError; see `write_pieces`."""
    data = data.encode() if isinstance(data, str) else data
    write_pieces(path, [data], len(data))


def write_pieces(path: str | os.PathLike, pieces: Iterable[Buffer], needed_bytes: int) -> None:
    """Write buffers, one after another, to `path` through a temporary file in the same folder.

    The temporary file is synced and then renamed, so a reader, a crash or a full disk sees the
    old file or the new one. A path in /dev (/dev/stdout) is appended to instead. needed_bytes:
    their size, for the DataError that says why they cannot be written.
    """
    path = os.path.abspath(os.fsdecode(path))
    try:
        if path.startswith("/dev/"):
            with open(path, "ab") as file:
                file.writelines(pieces)
        else:
            _write_and_rename(os.path.realpath(path), pieces)  # a symbolic link stays a link
    except OSError as error:
        raise DataError(_reason(path, error, needed_bytes)) from error


@contextmanager
def complete_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield FOLDER.partial to fill; it becomes `folder` if no error ends the block.

    What a killed run left in FOLDER.partial is removed first. Raises DataError if `folder` is there
    or cannot be made.
    """
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} exists already: delete it or choose another name")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {reason(error)}") from error
    try:
        yield partial
        os.rename(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, DataError):
            free = shutil.disk_usage(folder.parent).free // 10**6
            raise DataError(
                f"cannot make {folder} ({free} MB free on that disk): {error}; nothing "
                "is left of it"
            ) from error
        raise


def user_cache() -> str:
    """The folder for what can be made again: $XDG_CACHE_HOME, by default ~/.cache."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")


def checksum(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal digits; DataError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: {error.strerror}") from error
    return digest.hexdigest()


def _write_and_rename(target: str, pieces: Iterable[Buffer]) -> None:
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "this is a folder")
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(folder)
    except BaseException:  # an interrupt, too, must not leave a partial file
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync_folder(folder: str) -> None:
    """Let the names in a folder survive a crash, where the file system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_leftovers(folder: str, stem: str = "") -> list[str]:
    """Remove what killed writers have left in a folder; return the names.

    stem: of the files that they were writing, such as a snapshot's prefix. Nobody may be writing.
    """
    pattern = re.compile(rf"\.{re.escape(stem)}.*\.[0-9a-f]{{8}}\.tmp", re.DOTALL)
    names = [name for name in os.listdir(folder or ".") if pattern.fullmatch(name)]
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    return names


def _reason(path: str, error: OSError, needed_bytes: int) -> str:
    """One sentence for the user: what failed, how many bytes it needed, how to go on."""
    folder = os.path.dirname(os.path.realpath(path))
    what = f"{path}: cannot write {needed_bytes:,} bytes: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):
            what += f" ({shutil.disk_usage(folder).free:,} bytes are free in {folder})"
        return what + "; free some space or write elsewhere"
    if not os.path.isdir(folder):
        return what + f"; make the folder {folder} first"
    return what + f"; check the name and your rights in {folder}"
