"""Archives (tar, plain or compressed) as downloaded: read but never trusted.

Only regular files are taken, under their names without folders, so nothing is ever written outside
the output folder. An archive that has more files or grows larger than bounded_reader.py allows is
an error before it has filled the disk.
"""

from __future__ import annotations

import itertools
import lzma
import os
import posixpath
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from caffe_plain.names import file_name
from relaybp.data_prep.bounded_reader import BoundedReader, decompressed
from relaybp.data_prep.errors import PrepError

MOST_FILES = 10_000_000  # of one archive; ImageNet has 1,281,167, Places365 1,803,460

_TAR_NAME = re.compile(r"\.(tar|tgz|tbz|txz|tar\.\w+)$", re.IGNORECASE)
# on damage, tarfile raises all of these
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
_BROKEN += (ValueError, OverflowError, RecursionError)


def is_archive(path: str | os.PathLike) -> bool:
    """Whether `path` is a file whose name is that of a tar."""
    return bool(_TAR_NAME.search(str(path))) and Path(path).is_file()


def members(
    path: str | os.PathLike, file: IO[bytes] | None = None
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (name without folders, readable file) of each regular file of a tar.

    file: the tar itself where it is a file within another; then `path` only names it.
    Raises PrepError for an archive that is damaged or beyond the bounds.
    """
    with _opened(path, file) as (archive, bytes_in):
        claimed_bytes = 0
        for count in itertools.count():
            with _named(path):
                member = archive.next()
                if member is None:
                    _check_end(archive)
                    return
                claimed_bytes += member.size  # a sparse file has fewer in the archive
                bytes_in.check(claimed_bytes)
                content = member.isreg() and archive.extractfile(member)
            if count == MOST_FILES:
                raise PrepError(f"{path} holds more than {MOST_FILES:,} files: no data set does")
            archive.members.clear()  # it would remember every file
            if content:
                name = posixpath.basename(member.name)
                yield file_name(name, f"{path}: file"), content


def extract(files: Iterable[tuple[str, IO[bytes]]], folder: Path, where: str | os.PathLike) -> int:
    """Write the (name, readable file) of `files` into `folder`; returns how many there were."""
    count = 0
    for name, content in files:
        try:
            with open(folder / name, "xb") as out:
                while chunk := _read(content, where):
                    out.write(chunk)
        except FileExistsError as error:
            raise PrepError(f"{where} holds two files {name}") from error
        except OSError as error:
            raise PrepError(_no_space(folder, error)) from error
        count += 1
    return count


@contextmanager
def unpacked(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the folder of an archive's files; what is a folder already is yielded as it is."""
    if not is_archive(path):
        yield Path(path)
        return
    folder = Path(tempfile.mkdtemp(prefix="unpacked-"))
    try:
        extract(members(path), folder, path)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(
    path: str | os.PathLike, file: IO[bytes] | None
) -> Iterator[tuple[tarfile.TarFile, BoundedReader]]:
    with ExitStack() as stack:
        with _named(path):
            packed = file or stack.enter_context(open(path, "rb"))
            bytes_in = stack.enter_context(decompressed(packed, path))
            archive = stack.enter_context(tarfile.open(fileobj=bytes_in, mode="r:"))
        yield archive, bytes_in


def _check_end(archive: tarfile.TarFile) -> None:
    """A whole tar ends with a block of zeros, a whole compressed file with its check sum."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end")
    while archive.fileobj.read(1 << 20):
        pass


@contextmanager
def _named(path: str | os.PathLike) -> Iterator[None]:
    """Put the archive's name into errors of its format."""
    try:
        yield
    except _BROKEN as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise PrepError(
            f"{path}: {why}; the archive is damaged or cut off: download it again "
            "(md5sum tells whether it is whole)"
        ) from error


def _read(content: IO[bytes], where: str | os.PathLike) -> bytes:
    with _named(where):
        return content.read(1 << 20)


def _no_space(folder: Path, error: OSError) -> str:
    return (
        f"cannot write {folder} ({shutil.disk_usage(folder).free // 10**6} MB free on that "
        f"disk): {error}; free some space and give the same command again"
    )
