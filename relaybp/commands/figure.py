"""Reproduce a figure of the papers: train and test what it shows, and draw it.

    relay figure figure1                      drawn scenes: minutes, to see that it works
    CIFAR10=/lmdbs relay figure figure3       CIFAR-sized networks
    PLACES2=/lmdbs relay figure figure3       the paper's own, days to weeks of a GPU

Writes OUT/FIGURE.svg and .png, the numbers behind them as .csv, and the caption as .md. The runs
are those of the tables in the same OUT.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from caffe_plain.errors import CaffeError

from .. import engines
from ..figures.produce import COMPARED, write
from ..reproduce import data
from ..reproduce.produce import Production
from .reproduce import VARIABLES, add_options, choose_scale, needs, options_of


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The options; environment: gives their defaults."""
    main = argparse.ArgumentParser(
        prog="relay figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    figures = main.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for name, compared in COMPARED.items():
        one = figures.add_parser(
            name,
            help=compared.__doc__,
            description=f"{compared.__doc__}\n\n{needs(compared)}",
            epilog=VARIABLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(one, environment)
    return main


def main() -> None:
    args = parser(os.environ).parse_args()
    try:
        figure(args, os.environ)
    except CaffeError as error:
        sys.exit(f"figure {args.figure}: {error}")


def figure(args: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Reproduce one figure. Everything that can be wrong is found before anything is trained."""
    compared = COMPARED[args.figure]
    if not args.scale:
        args.scale = choose_scale(args.figure, compared, environment)
    options = options_of(args)
    table = compared(options.scale)
    keys = table.data()
    found = data.find(keys, environment, options.out) if keys else {}
    production = Production(engines.load(), args.figure, table, options, found)
    print(production.describe(), flush=True)
    if args.dry_run:
        return
    production.train()
    print("Written: " + ", ".join(write(production)))
