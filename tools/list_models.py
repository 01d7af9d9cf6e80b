#!/usr/bin/env python3
"""List the models that `make train MODEL=` can name."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("models", sys.argv[1:])
