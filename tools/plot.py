#!/usr/bin/env python3
"""Plot runs: losses, errors, and what --probe measured."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("plot", sys.argv[1:])
