#!/usr/bin/env python3
"""Write what is known of runs as one HTML file."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("report", sys.argv[1:])
