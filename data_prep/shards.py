"""Parts of a conversion that several machines share: DB_NAME.shard-I-of-N."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaybp.data_prep.errors import PrepError

_FLAG = re.compile(r"(\d+)/(\d+)")
_NAME = re.compile(r"\.shard-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`: the records from `start` to `end`, in the order of the whole.

    A count of 0 stands for the whole.
    """

    index: int
    count: int
    start: int
    end: int

    @classmethod
    def parse(cls, flag: str, records: int) -> Shard:
        """The part that --shard=I/N means; no flag means the whole."""
        if not flag:
            return cls(0, 0, 0, records)
        match = _FLAG.fullmatch(flag)
        index, count = map(int, match.groups()) if match else (1, 0)
        if index >= count:
            raise PrepError(f"--shard={flag}: expected I/N with I from 0 to N - 1, as in 0/16")
        if count > records:
            raise PrepError(f"--shard={flag}: {count} parts of {records} images; use fewer parts")
        return cls(index, count, records * index // count, records * (index + 1) // count)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that mark a database as a part."""
        return {"shard": [self.index, self.count]} if self.count else {}

    def folder(self, db: str | Path) -> str | Path:
        """The folder of this part of the database `db`."""
        if not self.count:
            return db
        return f"{str(db).rstrip('/')}.shard-{self.index:05d}-of-{self.count:05d}"


def find_shards(db: Path) -> list[Path]:
    """The folders of the parts of `db`, in order; all parts of one division must exist."""
    found = {}
    for path in sorted(db.parent.iterdir()) if db.parent.is_dir() else ():
        match = path.name.startswith(db.name) and _NAME.fullmatch(path.name[len(db.name) :])
        if match:
            found.setdefault(int(match[2]), {})[int(match[1])] = path
    if not found:
        raise PrepError(f"no {db}.shard-I-of-N: make them with convert_imageset.py --shard=I/N")
    if len(found) > 1:
        raise PrepError(
            f"{db} has parts of several divisions, into "
            f"{' and '.join(map(str, sorted(found)))}: delete those of all but one"
        )
    count, parts = found.popitem()
    missing = [index for index in range(count) if index not in parts]
    if missing:
        raise PrepError(
            f"{len(missing)} of {count} parts of {db} are missing or not complete: "
            f"{', '.join(map(str, missing[:20]))}; convert them with --shard=I/{count}"
        )
    return [parts[index] for index in range(count)]
