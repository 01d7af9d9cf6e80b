"""Reproduce a table of the papers: train, test and tabulate what it compares.

    relay reproduce table3                      drawn scenes: minutes, to see that it works
    CIFAR10=/lmdbs relay reproduce table3       CIFAR-sized networks
    PLACES2=/lmdbs relay reproduce table3       the paper's own, days to weeks of a GPU

`relay reproduce TABLE --help` says what a table compares and needs. A finished run is used again
where it is the one that the table asks for, an interrupted one goes on, another one is an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace

from caffe_plain.errors import CaffeError

from .. import engines
from ..cli import Parser
from ..errors import RelayError
from ..reproduce import data, writers
from ..reproduce.produce import TABLES, Production
from ..reproduce.runs import FP32, Options
from ..reproduce.scales import CIFAR, PAPER, SCALES, SMOKE
from ..reproduce.spec import Table

Makers = Mapping[str, Callable[[str], Table]]

PRECISIONS = (FP32, "tf32", "bf16")

VARIABLES = f"""\
Variables: {"=, ".join(data.VARIABLES)}= name the folders of data sets; SCALE=, SEEDS=, EPOCHS=,
OUT=, GPU=, PRECISION= and ONLY= stand in for the options. Relative paths start at the current
folder."""


def parser(
    command: str, about: str, makers: Makers, environment: Mapping[str, str]
) -> argparse.ArgumentParser:
    """The options of a command whose first argument is a table or figure; makers: {name: what
    makes its Table}."""
    main = Parser(prog=f"relay {command}", description=about)
    names = main.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, make in makers.items():
        one = names.add_parser(
            name,
            help=make.__doc__,
            description=f"{make.__doc__}\n\n{needs(make)}",
            epilog=VARIABLES,
        )
        _add_options(one, environment)
    return main


def _add_options(one: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    one.add_argument(
        "--scale",
        default=environment.get("SCALE") or None,
        help=f"{', '.join(SCALES)}; without it, the first whose data is named, else smoke",
    )
    one.add_argument(
        "--seeds", default=environment.get("SEEDS") or "1", help='"1 2 3": a run for each'
    )
    one.add_argument(
        "--epochs",
        default=environment.get("EPOCHS") or None,
        help="shorten (or lengthen) every schedule proportionally to so many epochs",
    )
    one.add_argument(
        "--out", default=environment.get("OUT") or "runs/tables", help="where everything goes"
    )
    one.add_argument(
        "--gpu", default=environment.get("GPU") or "auto", help="auto, none, or a GPU's number"
    )
    one.add_argument(
        "--precision",
        default=environment.get("PRECISION") or FP32,
        help="of trainings and tests: fp32, tf32 (GPUs), bf16 (fp32 weights)",
    )
    one.add_argument(
        "--only",
        default=environment.get("ONLY") or "*",
        help="train what is called so (cifar10-plain16_relay, or a pattern: *_relay); of the rest, "
        "show what is finished",
    )
    one.add_argument("--dry-run", action="store_true", help="say what would be trained, and stop")


def needs(make: Callable[[str], Table]) -> str:
    """What a table needs at each scale, and how long it takes."""
    lines = []
    for scale, about in SCALES.items():
        table = make(scale)
        if table.listed:
            models = ", ".join(model for model, _ in table.listed)
            lines.append(f"  SCALE={scale}: nothing; the layers of {models}")
            continue
        variables = " ".join(f"{name}=" for name in data.variables(table.data())) or "no data"
        if not table.trainings():
            return "  No data, and nothing is trained."
        models = ", ".join(dict.fromkeys(training.model for training in table.trainings()))
        count = len(table.trainings())
        noun = "training" if count == 1 else "trainings"
        lines.append(f"  SCALE={scale}: {variables}; for each seed {count} {noun} ({models})")
        lines.append(f"    {about}")
    return "\n".join(lines)


def choose_scale(make: Callable[[str], Table], environment: Mapping[str, str]) -> str:
    """The first scale that a variable names data of; smoke where none does, paper where no data is
    needed."""
    if not make(PAPER).data():
        return PAPER
    for scale in (PAPER, CIFAR):
        if any(environment.get(name) for name in data.variables(make(scale).data())):
            return scale
    given = [variable for variable in data.VARIABLES if environment.get(variable)]
    if given:
        raise RelayError(
            f"{', '.join(f'{variable}=' for variable in given)} names data that is not used here:"
            f"\n{needs(make)}"
        )
    return SMOKE


def options_of(args: argparse.Namespace) -> Options:
    """The checked options. Raises RelayError for values that make no sense."""
    if args.scale not in SCALES:
        raise RelayError(f"SCALE={args.scale}: expected one of {', '.join(SCALES)}")
    words = args.seeds.replace(",", " ").split()
    seeds = tuple(int(word) for word in words if word.isdecimal())
    if not words or len(set(seeds)) < len(words):
        raise RelayError(f'SEEDS="{args.seeds}": expected different whole numbers, as in "1 2 3"')
    try:
        epochs = float(args.epochs) if args.epochs else None
    except ValueError:
        epochs = 0.0
    if epochs is not None and not 0 < epochs < float("inf"):
        raise RelayError(f"EPOCHS={args.epochs}: expected a number above 0")
    if args.precision not in PRECISIONS:
        raise RelayError(f"PRECISION={args.precision}: expected one of {', '.join(PRECISIONS)}")
    if "," in args.gpu:
        raise RelayError(
            f"GPU={args.gpu}: expected one; several would make the mini-batch as many times larger"
        )
    out = os.path.abspath(args.out)
    return Options(args.scale, seeds, epochs, out, args.gpu, args.precision, args.only)


def plan(args: argparse.Namespace, makers: Makers, environment: Mapping[str, str]) -> Production:
    """What is to be trained, which is printed. Raises RelayError for everything that can be wrong,
    before anything is trained."""
    make = makers[args.name]
    args.scale = args.scale or choose_scale(make, environment)
    options = options_of(args)
    table = make(options.scale)
    if table.one_seed:
        options = replace(options, seeds=options.seeds[:1])
    engine = engines.load()
    found = data.find(table.data(), environment, options.out)
    production = Production(engine, args.name, table, options, found)
    print(production.describe(), flush=True)
    return production


def main() -> None:
    run("reproduce", __doc__, TABLES, reproduce)


def run(command: str, about: str, makers: Makers, finish: Callable[[Production], None]) -> None:
    """The whole of a command: its arguments, the plan, and unless it is a dry run, `finish`."""
    args = parser(command, about, makers, os.environ).parse_args()
    try:
        if args.dry_run and not os.path.exists(args.out):
            with tempfile.TemporaryDirectory() as args.out:  # for the data that a plan is made with
                plan(args, makers, os.environ)
            return
        production = plan(args, makers, os.environ)
        if not args.dry_run:
            finish(production)
    except CaffeError as error:
        sys.exit(f"{command} {args.name}: {error}")


def reproduce(production: Production) -> None:
    """Train, test, and print and write the table."""
    production.train()
    page = production.page()
    paths = production.write(page)
    print(f"\n{writers.terminal(page)}\nAlso in {', '.join(paths)}")
