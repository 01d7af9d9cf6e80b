#!/usr/bin/env python3
"""Print what runs were measured to reach, as a table."""

from relaybp.commands.table import main

if __name__ == "__main__":
    main()
