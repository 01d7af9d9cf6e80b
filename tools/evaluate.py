#!/usr/bin/env python3
"""Test runs as the papers do: one crop, several, or every position at several scales; ensembles."""

from relaybp.commands.evaluate import main

if __name__ == "__main__":
    main()
