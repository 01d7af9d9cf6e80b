#!/usr/bin/env python3
"""Plot runs: losses, errors, and what --probe measured."""

from relaybp.commands.plot import main

if __name__ == "__main__":
    main()
