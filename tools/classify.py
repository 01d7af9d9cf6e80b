#!/usr/bin/env python3
"""Say what is on photos, by the newest net of a run."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("classify", sys.argv[1:])
