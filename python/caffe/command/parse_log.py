"""parse_log: the train and test outputs of a training log as two CSV files.

    parse_log train.log OUTPUT_FOLDER [--verbose] [--delimiter ,]

writes OUTPUT_FOLDER/train.log.train and train.log.test, a row for each iteration: NumIters,
Seconds since "Solving ...", LearningRate, then the net's outputs.
"""

import bisect
import csv
import datetime
import io
import math
import os
import re

from caffe_plain.errors import DataError
from caffe_plain.files import write_atomically

from .flags import program, run

_STAMP = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d+)")
_ITERATION = re.compile(r"Iteration (\d+)")
_RATE = re.compile(r"Iteration \d+, lr = (\S+)")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")


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


def parse(lines):
    """(train rows, test rows) of a log's lines, each row {column: number}."""
    rows, rates = {"Train": {}, "Test": {}}, {}
    iteration, start, seconds = None, None, math.nan
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp and "Solving" in line:
            start = _time(stamp)
        if stamp and start:
            seconds = _since(start, _time(stamp))
        if found := _ITERATION.search(line):
            iteration = int(found[1])
        if found := _RATE.search(line):
            rates[iteration] = float(found[1])
        if (found := _OUTPUT.search(line)) and iteration is not None:
            kind, name, value = found.groups()
            row = rows[kind].setdefault(
                iteration,
                {"NumIters": float(iteration), "Seconds": seconds, "LearningRate": math.nan},
            )
            row[name] = float(value)
    known = sorted(rates)
    for kind in rows.values():
        for iteration, row in kind.items():
            if before := bisect.bisect_right(known, iteration):
                row["LearningRate"] = rates[known[before - 1]]
    return [list(rows[kind].values()) for kind in ("Train", "Test")]


def _time(stamp):
    """glog's time, which has no year; a leap year accepts every day."""
    month, day, hour, minute, second, micro = map(int, stamp.groups())
    return datetime.datetime(2000, month, day, hour, minute, second, micro)


def _since(start, now):
    """Seconds from `start` to `now`, which may be in the next year."""
    year = datetime.timedelta(days=366)
    return (now - start + (year if now < start else datetime.timedelta())).total_seconds()


def _csv(rows, delimiter):
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval=math.nan, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
