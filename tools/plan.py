#!/usr/bin/env python3
"""Show what each loss trains and what that costs, or propose auxiliary losses."""

from relaybp.commands.plan import main

if __name__ == "__main__":
    main()
