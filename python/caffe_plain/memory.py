"""How much memory this process may have."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",  # version 2, as a container sees it
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",  # version 1
)


def limit_bytes() -> int:
    """The least of the machine's memory, the container's limit and `ulimit -v`."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is none
            limits.append(int(Path(path).read_text()))
    return min(limits)


def used_bytes() -> int:
    """What this process has of it: address space under `ulimit -v`, else memory."""
    size, resident = Path("/proc/self/statm").read_text().split()[:2]
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return int(size if limited else resident) * os.sysconf("SC_PAGE_SIZE")


def amount(size_bytes: float) -> str:
    """A number of bytes for people: 1.5 GiB, 20 MiB."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:,.1f} {unit}"
    return f"{int(size_bytes):,} bytes"
