#!/usr/bin/env python3
"""Train a model by name, or any solver, with or without a relay file."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("train", sys.argv[1:])
