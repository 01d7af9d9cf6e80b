#!/usr/bin/env python3
"""Test runs as the papers do: one crop, several, or every position at several scales; ensembles."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("evaluate", sys.argv[1:])
