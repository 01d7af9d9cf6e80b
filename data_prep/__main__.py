"""A tool of this folder by its name, for other programs: python -m relaybp.data_prep TOOL ...

Unlike the tool's own script, it answers Ctrl-C with a line also while the tool is being imported.
"""

from __future__ import annotations

import importlib
import sys

from relaybp.data_prep.errors import run


def main() -> int | None:
    """Import and call the tool that the first word of the command line names."""
    del sys.argv[0]
    return importlib.import_module(f"relaybp.data_prep.{sys.argv[0]}").main()


if __name__ == "__main__":
    run(main)
