#!/usr/bin/env python3
"""Print the devices and libraries that the engine finds."""

import sys

from relaybp.__main__ import run

if __name__ == "__main__":
    run("build-info", sys.argv[1:])
