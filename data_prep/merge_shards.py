"""Join the parts made by convert_imageset.py --shard=I/N into one LMDB.

    python data_prep/merge_shards.py DB_NAME

Takes DB_NAME.shard-I-of-N for all I, and makes the DB_NAME that one conversion would have made. The
parts stay; delete them once check_database.py finds nothing wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Callable

import lmdb
import numpy as np

from caffe.files.datum import decode_datum
from caffe_plain.database import Cursor, open_database
from caffe_plain.flags import FlagParser
from relaybp.data_prep.datum_db import DatumDB, read_skips
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.shards import find_shards


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("db", metavar="DB_NAME", help="folder to make")
    return flags


def merge(db: str | Path, say: Callable[[str], None] = lambda line: None) -> tuple[int, int]:
    """Merge as the command does; returns (records, records left out)."""
    db = Path(db)
    parts = find_shards(db)
    settings = _common_settings(parts)
    if settings["check_size"]:
        _check_sizes(parts)
    counts = _counts(parts)
    names = settings["classes"] or [str(label) for label in range(len(counts))]
    with DatumDB(db, settings) as out:
        first = out.next_record
        for part in parts:
            say(f"{part}")
            _copy(part, first, out)
        skipped = len(out.skipped())
        out.finish(counts + [0] * (len(names) - len(counts)), names)
    return sum(counts), skipped


def _common_settings(parts: list[Path]) -> dict[str, Any]:
    """The settings of all parts, which must agree, without what makes them parts."""
    found = []
    for index, part in enumerate(parts):
        settings = json.loads((part / "settings.json").read_text())
        shard = settings.pop("shard", None)
        if shard != [index, len(parts)]:
            raise PrepError(
                f"{part} was made as part {shard}, not {[index, len(parts)]}: it has been renamed"
            )
        found.append(settings)
        if settings != found[0]:
            changed = [name for name in settings if settings[name] != found[0].get(name)]
            raise PrepError(
                f"{part} was made with other settings than {parts[0]} "
                f"({', '.join(changed)}): convert it again with the same ones"
            )
    return found[0]


def _check_sizes(parts: list[Path]) -> None:
    """All records of a part have the size of its first; so must the parts' first ones."""
    shapes = {}
    for part in parts:
        with _reading(part) as cursor:
            cursor.first()
            shapes.setdefault(decode_datum(cursor.value(), cursor.key()).shape, part)
    if len(shapes) > 1:
        found = " and ".join(
            f"{' x '.join(map(str, shape))} in {part}" for shape, part in shapes.items()
        )
        raise PrepError(
            f"-check_size: records of {found} (channels x height x width): convert "
            "again with -resize_width and -resize_height, or without -check_size"
        )


@contextmanager
def _reading(part: Path) -> Iterator[Cursor]:
    """A cursor over the records of a part."""
    try:
        with (
            closing(open_database(part)) as environment,
            environment.begin() as transaction,
            transaction.cursor() as cursor,
        ):
            yield cursor
    except lmdb.Error as error:
        raise PrepError(f"cannot read {part}: {error}; convert this part again") from error


def _copy(part: Path, first: int, out: DatumDB) -> None:
    """Put the records of a part and its skips into `out`, in their order, from record `first`."""
    skips = [skip for skip in read_skips(part) if skip[0] >= first][::-1]
    with _reading(part) as cursor:
        for key, record in cursor if cursor.set_range(b"%08d" % first) else ():
            while skips and skips[-1][0] < int(key.split(b"_")[0]):
                out.skip(*skips.pop())
            out.put(key, record)
    while skips:
        out.skip(*skips.pop())


def _counts(parts: list[Path]) -> list[int]:
    """The records of each label, over all parts."""
    rows = [
        line.split("\t")
        for part in parts
        for line in (part / "class_index.tsv").read_text().splitlines()
    ]
    counts = np.zeros(1 + max(int(label) for label, _ in rows), int)
    for label, count in rows:
        counts[int(label)] += int(count)
    return counts.tolist()


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    records, skipped = merge(options.db, lambda line: print(line, file=sys.stderr, flush=True))
    left_out = f"; {skipped} left out, see {options.db}/skipped.tsv" if skipped else ""
    print(f"{options.db}: {records} records{left_out}")


if __name__ == "__main__":
    run(main)
