"""The CPU cores at hand."""

import os


def usable_cores() -> int:
    """How many CPU cores this process may use, 1 or more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
