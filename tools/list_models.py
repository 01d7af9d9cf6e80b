#!/usr/bin/env python3
"""List the models that `make train MODEL=` can name: python tools/list_models.py"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from relaybp import models  # noqa: E402


def main():
    names = models.names()
    for name in names:
        folder, method = models.find(name)
        print("%-24s %-9s %s" % (name, method, os.path.relpath(folder, ROOT)))
    print("%d models" % len(names))


if __name__ == "__main__":
    main()
