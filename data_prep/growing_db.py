"""An LMDB that survives a kill, a full disk and a full map, and appears only when complete.

It is built in FOLDER.partial, beside settings.json (what makes it), and renamed to FOLDER at the
end. Keys begin with the number of their record and an underscore.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import lmdb

from caffe_plain.files import write_atomically
from relaybp.data_prep.errors import PrepError

INITIAL_MAP_BYTES = 1 << 28  # address space, not disk; doubled whenever it is full
BATCH_RECORDS, BATCH_BYTES = 1000, 1 << 26  # a transaction: 1000 as the original, or 64 MiB


class GrowingDB:
    """The writer. `settings` (a dict) says what is being written; only a run with the same settings
    may continue it.

    next_record: the first record number that is not in the database yet.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self._refuse_existing()
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.partial / "writer.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._env = None
        self._batch, self._batch_bytes = [], 0
        try:
            self._claim()
            # without LMDB's own lock, whose mapped file ends a process with SIGBUS on a full disk
            self._env = lmdb.open(str(self.partial), map_size=INITIAL_MAP_BYTES, lock=False)
            self._last_key, self.next_record = self._find_last()
            self._compare(settings)
            self._continue(self._env.stat()["entries"])
        except lmdb.Error as error:
            self.close()
            raise self._write_error(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> GrowingDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what is not flushed is left for the next run."""
        if self._env is not None:
            empty = self._env.stat()["entries"] == 0
            self._env.close()
            self._env = None
            if empty:
                shutil.rmtree(self.partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def first_record(self) -> bytes | None:
        """The first record, or None."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            return cursor.value() if cursor.first() else None

    def put(self, key: bytes, record: bytes) -> None:
        """Add a record; keys must come in ascending order."""
        self._batch.append((key, record))
        self._batch_bytes += len(record)
        if len(self._batch) >= BATCH_RECORDS or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make everything so far survive a kill."""
        try:
            self._note(self._batch)
            while self._batch and not self._commit():
                self._env.set_mapsize(2 * self._env.info()["map_size"])
        except (lmdb.Error, OSError) as error:
            raise self._write_error(error) from error
        self._batch, self._batch_bytes = [], 0

    def complete(self, expected: int) -> None:
        """Give the database, which must hold `expected` records, its name."""
        self.flush()
        found = self._env.stat()["entries"]
        if found != expected:
            raise PrepError(
                f"{self.partial} holds {found} records instead of {expected}: delete "
                "it and convert again"
            )
        try:
            self._write_side_files()
            self._env.sync(True)
            self._env.close()
            self._env = None
            (self.partial / "writer.lock").unlink()
            os.rename(self.partial, self.folder)
            _sync_folder(self.folder.parent)
        except (lmdb.Error, OSError) as error:
            raise self._write_error(error) from error
        finally:
            self.close()

    # ---- what a database with more files beside it does ------------------------------------------

    def _continue(self, count: int) -> None:
        """Bring what lies beside a database of `count` records to its state."""

    def _note(self, batch: list[tuple[bytes, bytes]]) -> None:
        """Save what is needed of records that are about to be written."""

    def _write_side_files(self) -> None:
        """Write what lies beside a complete database."""

    # ---- steps -----------------------------------------------------------------------------------

    def _refuse_existing(self) -> None:
        if self.folder.exists():
            raise PrepError(f"{self.folder} exists already: delete it or choose another name")

    def _claim(self) -> None:
        """Become the only writer."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepError(f"another process is writing {self.partial}: let it finish") from None
        self._refuse_existing()

    def _compare(self, settings: dict[str, Any]) -> None:
        """Refuse to go on with records that were made with other settings."""
        path = self.partial / "settings.json"
        if self.next_record == 0:
            write_atomically(path, json.dumps(settings, indent=1) + "\n")
            return
        before = json.loads(path.read_text())
        if before != settings:
            changes = [
                f"{name} was {before.get(name)!r}, is now {settings.get(name)!r}"
                for name in {**before, **settings}
                if before.get(name) != settings.get(name)
            ]
            raise PrepError(
                f"{self.partial} was begun with other settings ({'; '.join(changes)}): "
                "continue with the same ones, or delete it to begin again"
            )

    def _find_last(self) -> tuple[bytes, int]:
        """The last key, and the number of the record after it."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            key = cursor.key() if cursor.last() else b""
        return key, int(key.split(b"_")[0]) + 1 if key else 0

    def _commit(self) -> bool:
        """Write the batch in one transaction; false if the map is too small for it."""
        try:
            with self._env.begin(write=True) as txn:
                for key, record in self._batch:
                    txn.put(key, record, append=True)
        except lmdb.MapFullError:
            return False
        return True

    def _write_error(self, error: Exception) -> PrepError:
        free = shutil.disk_usage(self.partial.parent).free // 10**6
        return PrepError(
            f"cannot write {self.partial} ({free} MB free on that disk): {error}; "
            "nothing that looks complete is left: free some space and give the same "
            "command again to continue, or delete that folder"
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
