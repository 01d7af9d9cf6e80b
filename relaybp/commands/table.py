"""Tabulate the measured error rates of runs.

    python tools/tabulate.py "Places2, model A" "standard BP=runs/a" "Relay BP=runs/b"

Prints a row for each LABEL=RUN and a column for each kind of test that tools/evaluate.py wrote to a
run's errors.csv: top-1 / top-5 error in %. All numbers are measured; those that the papers report
are in the models' readmes.
"""

import argparse
import csv
import os
import sys

from caffe_plain.errors import CaffeError

from ..errors import RelayError


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("title")
    parser.add_argument("row", nargs="+", metavar="LABEL=RUN")
    args = parser.parse_args()
    try:
        rows = [(label, measured(run)) for label, run in map(split, args.row)]
    except CaffeError as error:
        sys.exit(f"tabulate: {error}")
    print(table(args.title, rows))


def split(row):
    label, equals, run = row.partition("=")
    if not equals:
        raise RelayError(f"{row!r}: expected LABEL=RUN")
    return label, run


def measured(run):
    """{kind of test: "top-1 / top-5 (images)"} of a run."""
    path = os.path.join(run, "errors.csv")
    if not os.path.exists(path):
        raise RelayError(f"{path}: no such file; tools/evaluate.py {run} writes it")
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["test"], []).append(row)
    return {
        test: "{} ({} images)".format(
            " / ".join(row["error"] for row in sorted(rows, key=lambda row: int(row["k"]))),
            rows[0]["images"],
        )
        for test, rows in found.items()
    }


def table(title, rows):
    """The rows in Markdown; a test that is missing from a run is left blank."""
    tests = list(dict.fromkeys(test for _, found in rows for test in found))
    lines = [
        f"Measured: {title}, error in %",
        "",
        "| | " + " | ".join(tests) + " |",
        "|---" * (len(tests) + 1) + "|",
    ]
    lines += [
        f"| {label} | " + " | ".join(found.get(test, "") for test in tests) + " |"
        for label, found in rows
    ]
    return "\n".join(lines)
