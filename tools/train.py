#!/usr/bin/env python3
"""Train a model by name, or any solver, with or without a relay file."""

from relaybp.commands.train import main

if __name__ == "__main__":
    main()
