"""The layers' C code, once it has been built: python -m relaybp.layers.native.build"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import os
import platform

FOLDER = os.path.dirname(os.path.abspath(__file__))
LINKED = {"crop_jpeg": ["-ljpeg"], "finish": []}  # each library, and what it is linked with


def source_path(name: str) -> str:
    return os.path.join(FOLDER, f"{name}.c")


def library_path(name: str) -> str:
    """Where the library of that name, for these sources and this processor, lies."""
    digest = hashlib.sha256(platform.machine().encode())
    for path in (source_path(name), *sorted(glob.glob(os.path.join(FOLDER, "*.h")))):
        with open(path, "rb") as file:
            digest.update(file.read())
    return os.path.join(FOLDER, f"{name}-{digest.hexdigest()[:16]}.so")


def load(name: str) -> ctypes.CDLL | None:
    """The library of that name, or None where it has not been built or cannot be loaded."""
    path = library_path(name)
    try:
        return ctypes.CDLL(path) if os.path.exists(path) else None
    except OSError:  # built for another libjpeg or C library than this machine has now
        return None
