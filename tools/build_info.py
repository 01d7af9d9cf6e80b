#!/usr/bin/env python3
"""Print the devices and libraries that the engine finds."""

from relaybp.commands.build_info import main

if __name__ == "__main__":
    main()
