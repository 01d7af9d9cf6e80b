"""Read a database back: every record decoded, counted, and compared with the files beside it.

    python data_prep/check_database.py [FLAGS] DB_NAME [DB_NAME ...]

Prints the records of each class, and names each record that is damaged (not a Datum, an image that
is cut off or that the decoder rejects, bytes other than those written), has a wrong label, or whose
class has no name. The exit status is 1 if there is one, or if the side files (classes.txt,
class_index.tsv, record_index.npy, checksums.npy; see datum_db.py) disagree with the records, if
the images have different numbers of channels, or if databases share images (as train and val must
not), number their classes differently or store colours in different orders. Images that one
database repeats, and photos that are stored lying, are noted. A database made by other tools has no
side files; only its records are checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Callable, NamedTuple

import lmdb
import numpy as np

from caffe_plain.class_names import difference, read_class_names
from caffe_plain.cores import usable_cores
from caffe_plain.database import Environment, open_database
from caffe_plain.flags import FlagParser
from caffe_plain.images import printable
from relaybp.data_prep.check_records import FORCE_COLOR, Checked, check_run
from relaybp.data_prep.colour_order import check_colour_orders
from relaybp.data_prep.datum_db import CHECKSUMS
from relaybp.data_prep.duplicates import Fingerprints
from relaybp.data_prep.errors import PrepError, run, some
from relaybp.data_prep.workers import process_map
from relaybp.layers import record_index

_RUN = 64  # records that a worker is asked for at a time


class Report(NamedTuple):
    """What was found in a database."""

    records: int
    bad: int  # how many of the records
    labels: Counter  # how many of each, None where a record does not say
    shapes: Counter  # the same of each shape
    problems: list[str]  # of the whole
    notes: list[str]


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("dbs", metavar="DB_NAME", nargs="+")
    flags.flag("force_color", False, "as a Data layer with transform_param { force_color: true }")
    flags.flag("workers", usable_cores(), "processes that read and decode")
    return flags


class SideFiles:
    """The files beside the records of a database, as far as they exist."""

    def __init__(self, db: Path) -> None:
        self.names = class_names(db)
        self._counts = _lines(db / "class_index.tsv")
        self._index = _array(db / record_index.FILE)
        self._checksums = _array(db / CHECKSUMS)

    def complaint(self, number: int, checked: Checked) -> str | None:
        """What is wrong with a record that could be read, or None."""
        label = checked.label
        if _says_else(self._checksums, number, checked.checksum):
            return "not the bytes that were written"
        if self._index is not None and number < len(self._index):
            key, expected = self._index[number].tolist()
            if label != expected:
                return f"its label is {label}, in {record_index.FILE} {expected}"
            if not checked.key.startswith(key):
                return f"{record_index.FILE} has another key there: {key!r}"
        if label < 0:
            return f"label {label} is negative"
        if self.names and label >= len(self.names):
            return f"label {label} has no name: classes.txt has {len(self.names)} lines"
        return None

    def problems(self, labels: Counter, records: int) -> Iterator[str]:
        """Yield each disagreement of the side files with the records as a whole."""
        for file, rows in ((record_index.FILE, self._index), (CHECKSUMS, self._checksums)):
            if rows is not None and len(rows) != records:
                yield f"{file} has {len(rows)} rows for {records} records"
        for line in self._counts or []:
            label, count = map(int, line.split("\t"))
            if labels[label] != count:
                yield (
                    f"class_index.tsv says {count} records of label {label}, found {labels[label]}"
                )


def _says_else(rows: np.ndarray | None, number: int, value: int) -> bool:
    return rows is not None and number < len(rows) and rows[number] != value


def class_names(db: Path) -> list[str]:
    """The names of a database's classes, none where it does not say them."""
    path = db / "classes.txt"
    return read_class_names(path) if path.is_file() else []


def _lines(path: Path) -> list[str] | None:
    return path.read_text().splitlines() if path.is_file() else None


def _array(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise PrepError(
            f"{path}: {error}; delete it: record_index.npy is made anew when it is "
            "needed, checksums.npy only by converting again"
        ) from error


def check(
    db: str | Path,
    workers: int = 1,
    bad: Callable[[bytes, str], object] = lambda key, reason: None,
    force_color: bool = False,
    fingerprints: Fingerprints | None = None,
) -> Report:
    """The Report of a database; calls bad(key, reason) for each bad record.

    fingerprints: what those of all records are added to.
    """
    db = Path(db)
    fingerprints = fingerprints or Fingerprints()
    fingerprints.begin(str(db))
    try:
        with closing(open_database(db)) as environment:
            task = partial(check_run, str(db), force_color)
            runs = process_map(task, _runs(environment), workers)
            entries = environment.stat()["entries"]
            return _gather(runs, SideFiles(db), bad, entries, fingerprints)
    except lmdb.Error as error:
        raise PrepError(f"{db} cannot be read: {error}") from error


def _runs(environment: Environment) -> Iterator[tuple[bytes, int]]:
    """Yield (first key, number of records) of runs that cover the database."""
    with environment.begin() as transaction, transaction.cursor() as cursor:
        for number, key in enumerate(cursor.iternext(values=False)):
            if number % _RUN == 0:
                yield key, _RUN


def _gather(
    runs: Iterable[list[Checked]],
    side_files: SideFiles,
    bad: Callable[[bytes, str], object],
    expected: int,
    fingerprints: Fingerprints,
) -> Report:
    number, count_bad, labels, shapes, turned = 0, 0, Counter(), Counter(), []
    for number, checked in enumerate(chain.from_iterable(runs), 1):
        labels[checked.label] += 1
        shapes[checked.shape] += 1
        if checked.turned:
            turned.append(checked.key)
        if checked.pixels is not None:
            fingerprints.add(checked.pixels, number - 1, checked.label)
        reason = checked.reason or side_files.complaint(number - 1, checked)
        if reason:
            count_bad += 1
            bad(checked.key, reason)
    problems = [*side_files.problems(labels, number), *_channels(shapes)]
    if number != expected:
        problems.append(f"{number} records can be reached, {expected} should be there")
    return Report(number, count_bad, labels, shapes, problems, list(_lying(turned)))


def _channels(shapes: Counter) -> Iterator[str]:
    """Yield what is wrong if not all images have as many channels."""
    counts = Counter()
    for shape, count in shapes.items():
        if shape:
            counts[shape[0]] += count
    if len(counts) > 1:
        found = ", ".join(f"{counts[k]} of {k}" for k in sorted(counts))
        yield f"images of different numbers of channels ({found}): {FORCE_COLOR}"


def _lying(turned: list[bytes]) -> Iterator[str]:
    if turned:
        yield (
            f"{len(turned)} photos are not stored upright, as their orientation says:\n"
            f"{some([printable(key) for key in turned])}\nonly Data layers with force_color or "
            "force_gray turn them; convert them again, without --keep_exif"
        )


def _sizes(shapes: Iterable[tuple[int, int, int] | None]) -> str:
    """The sizes of the images in words."""
    known = sorted(shape for shape in shapes if shape)
    if len(known) == 1:
        return f"all of {' x '.join(map(str, known[0]))} (channels x height x width)"
    short = [min(shape[1:]) for shape in known]
    channels = sorted({shape[0] for shape in known})
    return (
        (
            f"of {len(known)} sizes, shorter side {min(short)} to {max(short)}, "
            f"{' and '.join(map(str, channels))} channels"
        )
        if known
        else "of no size"
    )


def _check_and_print(
    db: str, workers: int, force_color: bool, fingerprints: Fingerprints
) -> Report:
    report = check(
        db,
        workers,
        lambda key, reason: print(f"bad record {printable(key)!r}: {reason}", flush=True),
        force_color,
        fingerprints,
    )
    names = class_names(Path(db))
    labels = sorted(label for label in report.labels if label is not None)
    for label in labels:
        name = printable(names[label]) if 0 <= label < len(names) else ""
        print(f"label {label}: {report.labels[label]} records {name}".rstrip())
    empty = [printable(name) for label, name in enumerate(names) if not report.labels[label]]
    if empty:
        print(f"note: {len(empty)} of {len(names)} classes have no record:\n{some(empty)}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    print(
        f"{db}: {report.records} records {_sizes(report.shapes)}, "
        f"{len(labels)} classes; {report.bad} bad records, "
        f"{len(report.problems)} problems of the whole"
    )
    return report


def _class_problems(dbs: Sequence[str]) -> Iterator[str]:
    """Yield which databases number their classes differently, or unlike their data folder."""
    for first, second in combinations(dbs, 2):
        differs = difference(class_names(Path(first)), class_names(Path(second)))
        if differs:
            yield f"{first} and {second} number their classes differently: {differs}"
    for db in dbs:
        differs = difference(class_names(Path(db)), class_names(Path(db).parent))
        if differs:
            yield f"{db} numbers its classes unlike the classes.txt beside it: {differs}"


def _colour_problems(dbs: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong where the databases store colours in different orders."""
    try:
        check_colour_orders(dbs)
    except PrepError as error:
        yield str(error)


def main(args: list[str] | None = None) -> int:
    options = parser().parse_args(args)
    fingerprints = Fingerprints()
    reports = [
        _check_and_print(db, options.workers, options.force_color, fingerprints)
        for db in options.dbs
    ]
    for note in fingerprints.repeated():
        print(f"note: {note}")
    problems = [
        *fingerprints.shared(),
        *_class_problems(options.dbs),
        *_colour_problems(options.dbs),
    ]
    for problem in problems:
        print(f"problem: {problem}")
    return 1 if problems or any(report.bad or report.problems for report in reports) else 0


if __name__ == "__main__":
    run(main)
