#!/usr/bin/env python3
"""Show what each loss trains and what that costs, or propose auxiliary losses."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("plan", sys.argv[1:])
