"""parse_log: the train and test outputs of a training log as two CSV files.

    parse_log train.log OUTPUT_FOLDER [--verbose] [--delimiter ,]

writes OUTPUT_FOLDER/train.log.train and train.log.test, a row for each iteration: NumIters,
Seconds since "Solving ..." (the log's beginning, where it has no such line), LearningRate, then the
net's outputs. A line that is torn, as where several threads write at once, is passed over.
"""

from __future__ import annotations

import bisect
import csv
import datetime
import io
import math
import os
import re
from collections.abc import Iterable

from caffe_plain.errors import DataError
from caffe_plain.files import write_atomically

from .flags import program, run

_STAMP = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{1,6}) ")
_ITERATION = re.compile(r"Iteration (\d+)[ ,]")
_RATE = re.compile(r"Iteration \d+, lr = (\S+?),?\s")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+?),?\s")
_NOT_FINITE = re.compile(r"(-?)1\.#(INF|IND|QNAN|SNAN)\d*")  # as Windows prints them


def main(args=None):
    """Run the command line; return the exit status."""
    parser = program("parse_log", __doc__)
    parser.add_argument("log", help="the log of a training")
    parser.add_argument("output", help="the folder for the two CSV files")
    parser.flag("delimiter", ",", "what stands between two values")
    parser.add_argument("-verbose", "--verbose", action="store_true", help="print the rows")
    return run(parser, _convert, args)


def _convert(options):
    try:
        with open(options.log, encoding="utf-8", errors="replace") as file:
            train, test = parse(file)
    except OSError as error:
        raise DataError(f"{options.log}: cannot be read: {error.strerror}") from error
    if not train and not test:
        raise DataError(
            f"{options.log}: no output of a train or test net in it; expected the log "
            "of a training whose solver says display or test_interval"
        )
    name = os.path.basename(options.log)
    for kind, rows in (("train", train), ("test", test)):
        path = os.path.join(options.output, f"{name}.{kind}")
        data = _csv(rows, options.delimiter).encode()
        write_atomically(path, data)
        print(f"{path}: {len(rows)} rows")
        if options.verbose:
            print(data.decode(), end="")


def parse(lines: Iterable[str]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(train rows, test rows) of a log's lines, each row {column: number}.

    Lines end in a line break; one that does not was cut off, and is passed over.
    """
    rows: dict[str, dict[int, dict[str, float]]] = {"Train": {}, "Test": {}}
    rates: dict[int, float] = {}
    iteration, clock = None, _Clock()
    for line in lines:
        clock.read(line)
        if found := _ITERATION.search(line):
            iteration = int(found[1])
        if iteration is None:
            continue
        if (found := _RATE.search(line)) and (rate := _number(found[1])) is not None:
            rates[iteration] = rate
        if (found := _OUTPUT.search(line)) and (value := _number(found[3])) is not None:
            new = {"NumIters": float(iteration), "Seconds": clock.seconds, "LearningRate": math.nan}
            rows[found[1]].setdefault(iteration, new)[found[2]] = value
    known = sorted(rates)
    for kind in rows.values():
        for iteration, row in kind.items():
            if before := bisect.bisect_right(known, iteration):
                row["LearningRate"] = rates[known[before - 1]]
    return list(rows["Train"].values()), list(rows["Test"].values())


def _number(text):
    """The number that a program of any platform and language printed; None where it is torn."""
    if found := _NOT_FINITE.fullmatch(text):
        return float(found[1] + "inf") if found[2] == "INF" else math.nan
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


class _Clock:
    """The seconds since the first line that says "Solving", by the stamps of the lines."""

    def __init__(self):
        self.seconds = math.nan
        self._start = None
        self._solving = False

    def read(self, line):
        if "Solving" in line and not self._solving:
            self._solving, self._start = True, None  # this line or, without a stamp, the next
        if now := _time(line):
            self._start = self._start or now
            self.seconds = _since(self._start, now)


def _time(line):
    """A line's time; None without a whole stamp. Without a year, it is 2000: all days exist."""
    if not (stamp := _STAMP.match(line)):
        return None
    year, month, day, hour, minute, second = (int(part or 2000) for part in stamp.groups()[:-1])
    micro = int(stamp[7].ljust(6, "0"))
    try:
        return datetime.datetime(year, month, day, hour, minute, second, micro)
    except ValueError:
        return None


def _since(start, now):
    """Seconds from `start` to `now`, which may be in the next year."""
    if start.year == now.year and now.month < start.month:
        now += datetime.timedelta(days=366)
    return (now - start).total_seconds()


def _csv(rows, delimiter):
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval=math.nan, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
