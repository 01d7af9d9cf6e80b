#!/usr/bin/env python3
"""Say what the engine sees."""

from relaybp.commands.build_info import main

if __name__ == "__main__":
    main()
