"""Reproduce a figure of the papers: train and test what it shows, and draw it.

    relay figure figure1                      drawn scenes: minutes, to see that it works
    CIFAR10=/lmdbs relay figure figure3       CIFAR-sized networks
    PLACES2=/lmdbs relay figure figure3       the paper's own, days to weeks of a GPU

Writes OUT/FIGURE.svg and .png, the numbers behind them as .csv, and the caption as .md. The runs
are those of the tables in the same OUT.
"""

from __future__ import annotations

import os
import sys

from caffe_plain.errors import CaffeError

from ..figures.produce import COMPARED, write
from .reproduce import parser_of, plan


def main() -> None:
    args = parser_of("figure", __doc__, COMPARED, os.environ).parse_args()
    try:
        production = plan(args, COMPARED, os.environ)
        if args.dry_run:
            return
        production.train()
        print("Written: " + ", ".join(write(production)))
    except CaffeError as error:
        sys.exit(f"figure {args.name}: {error}")
