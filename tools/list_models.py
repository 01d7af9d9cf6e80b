#!/usr/bin/env python3
"""List the models that `make train MODEL=` can name."""

from relaybp.commands.models import main

if __name__ == "__main__":
    main()
