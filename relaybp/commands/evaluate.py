"""Test runs as the papers do: one crop, several, or every position at several scales; ensembles.

    relay evaluate runs/model_a_relay-...               the TEST phase: one centre crop
    relay evaluate RUN --protocol vgg                   fully-convolutional, averaged
    relay evaluate RUN --scales 224,256,320             the same at other shorter sides
    relay evaluate A@224,256 B@10-crop --out ENSEMBLE   each in its own way, and their mean scores
    relay evaluate RUN --images test.txt --submission answers.txt      a test set without labels

Tests the newest snapshot. What was measured is kept in RUN/results/ with the identity of weights,
net, data and protocol, and is not tested again; errors.csv (a row for each protocol and k) and
per_class_PROTOCOL.csv (the errors of each class) are the latest of it as tables. A net of five
classes or fewer has no top-5 error.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from caffe_plain.errors import CaffeError
from caffe_plain.files import write_atomically

from .. import engines
from ..cli import Parser, Runs
from ..evaluation.identity import FP32, net_of_run
from ..evaluation.measures import KS
from ..evaluation.protocol import CROP, DENSE, Protocol, explain
from ..evaluation.results import Member, Result, ensemble, measure
from ..evaluation.validation_set import test_feed
from ..layers.mean_file import read_mean

HEADER = ("test", "k", "error", "images", "weights")  # of errors.csv
CLASS_HEADER = ("class", "images", *(f"top{k}_error" for k in KS))
IDS_HELP = (
    "the challenge's number of each class: ImageNet's development kit, or a file of one a line; "
    "default: the label plus one"
)


def arguments() -> argparse.Namespace:
    """The command line; what makes no sense ends the program with status 2."""
    parser = Parser(
        description=__doc__, epilog=f"protocols, and what papers call them:\n{explain()}"
    )
    add = parser.add_argument
    add(
        "run",
        nargs="+",
        action=Runs,
        metavar="RUN[@PROTOCOL]",
        help="folders that training runs made",
    )
    add("--weights", help="a .caffemodel; default: the run's newest")
    add("--loss", help="the output to test, by its loss layer; default: the last")
    add("--protocol", help="of runs without their own; default: crop")
    add("--scales", metavar="224,256,...", help="short for --protocol dense:224,256,...")
    add("--step", type=int, default=1, help="of dense positions, on the net's last map")
    add("--limit", type=int, help="test the first images only")
    add("--gpu", default="auto", help="auto, none, or a GPU index")
    add("--precision", default=FP32, help="fp32, tf32 (GPUs) or bf16")
    add("--out", help="folder of an ensemble's result; default: its runs' names, joined by +")
    add("--images", help="images without labels: a folder, a list of files, or an LMDB")
    add("--submission", metavar="FILE", help="where to write five labels for each of them")
    add("--ids", metavar="FILE", help=IDS_HELP)
    args = parser.parse_args()
    problem = next((message for message, found in problems(args) if found), None)
    if problem:
        parser.error(problem)
    return args


def problems(args: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """(complaint, whether there is reason for it) of arguments that do not go together."""
    yield "--weights goes with one run", bool(args.weights) and len(args.run) > 1
    yield (
        "--out is an ensemble's folder, and needs several runs",
        bool(args.out) and len(args.run) == 1,
    )
    yield "--scales is itself a protocol: give no other", None not in (args.scales, args.protocol)
    yield "--images and --submission go together", bool(args.images) != bool(args.submission)
    yield "--ids goes with --submission", bool(args.ids) and not args.submission
    in_fp32 = args.precision == FP32
    yield "--precision: a submission is made in fp32", bool(args.submission) and not in_fp32
    yield "--limit: a submission is of all images", bool(args.submission and args.limit)


def main() -> None:
    args = arguments()
    try:
        evaluate(engines.load(), args)
    except CaffeError as error:
        sys.exit(f"evaluate: {error}")


def evaluate(engine: Any, args: argparse.Namespace) -> None:
    """Test what the command line names and print what was found."""
    members = [member_of(word, args) for word in args.run]
    if args.submission:
        from ..evaluation import submission  # needs OpenCV, which the TEST phase may do without

        print(submission.write(engine, members, args.images, args.submission, args.ids, args.gpu))
        return
    for member in members:
        result = measure(engine, *member, args.gpu, args.precision)
        print(describe(member.run, result), *notes(engine.pb, member), sep="\n  ", flush=True)
        write_tables(member.run, result)
    if len(members) > 1:
        out = args.out or ensemble_folder([member.run for member in members])
        result = ensemble(engine, members, out, args.gpu, args.precision)
        print(describe(f"ensemble of {len(members)}", result), flush=True)
        write_tables(out, result)


def member_of(word: str, args: argparse.Namespace) -> Member:
    """The run, its protocol and weights that an argument RUN[@PROTOCOL] names."""
    run, at, text = word.rpartition("@")
    if not at or os.path.isdir(word):
        run, text = word, args.protocol or CROP
        if args.scales is not None:
            text = f"{DENSE}:{args.scales}"
    return Member(run, Protocol.parse(text, args.step, args.limit, args.loss), args.weights)


def describe(title: str, result: Result) -> str:
    """The errors, and below them what they were measured on."""
    data = result.data
    precision = f", in {result.precision}" if result.precision != FP32 else ""
    lines = [f"{title}: {result.line()}", f"protocol  {result.protocol}{precision}"]
    if result.weights:
        lines.append(f"weights   {result.weights['file']} ({result.weights['sha256'][:12]})")
    for member in result.members:
        weights, protocol = member["weights"], member["protocol"]
        lines.append(f"member    {member['run']}, {protocol}, {weights['file']}")
    lines.append(f"data      {data['source']}, {data['records']} records ({data['index']})")
    return "\n  ".join([*lines, f"kept in   {result.path}"])


def notes(pb: Any, member: Member) -> list[str]:
    """What a reader of the errors should know about the way they were measured."""
    mean = test_feed(net_of_run(pb, member.run)).mean_file
    if member.protocol.kind == DENSE and mean:
        size = " x ".join(map(str, read_mean(pb, mean).shape[1:]))
        return [f"mean      {mean} ({size}), resized to the size of each image"]
    return []


def ensemble_folder(runs: Sequence[str]) -> str:
    """Beside the first run, a folder with the names of all."""
    paths = [os.path.normpath(run) for run in runs]
    return os.path.join(os.path.dirname(paths[0]), "+".join(map(os.path.basename, paths)))


def write_tables(folder: str, result: Result) -> None:
    """Bring errors.csv and per_class_PROTOCOL.csv of a folder up to date.

    Of errors.csv rows of other tests stay; what is no row of it goes, as another program leaves it.
    """
    name, weights = result.protocol, result.weights.get("file", "")
    write_csv(os.path.join(folder, f"per_class_{name}.csv"), CLASS_HEADER, class_rows(result))
    path, kept = os.path.join(folder, "errors.csv"), []
    if os.path.exists(path):
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            _, *found = [*csv.reader(file)] or [[]]
        kept = [row for row in found if len(row) == len(HEADER) and row[0] != name]
    rows = [(name, k, f"{error:.2f}", result.images, weights) for k, error in result.errors.items()]
    write_csv(path, HEADER, [*kept, *rows])


def class_rows(result: Result) -> list[tuple[str, ...]]:
    """A row of per_class_PROTOCOL.csv for each class, the best first."""
    best_first = result.class_errors(max(result.errors))
    errors = [{label: error for label, _, error in result.class_errors(k)} for k in KS]
    return [
        (
            result.class_name(label),
            str(images),
            *(f"{of[label]:.2f}" if k in result.errors else "" for k, of in zip(KS, errors)),
        )
        for label, images, _ in best_first
    ]


def write_csv(path: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, whole or not at all."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, file.getvalue())
