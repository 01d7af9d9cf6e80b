#!/usr/bin/env python3
"""Tabulate the measured error rates of runs."""

from relaybp.commands.table import main

if __name__ == "__main__":
    main()
