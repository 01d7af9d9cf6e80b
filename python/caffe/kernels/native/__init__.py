"""The engine's own CPU kernels, compiled by `make setup` or at first use; see build.py."""

import ctypes
import hashlib
import os
import platform
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.cpp"))

_POINTER, _FLOAT, _INT, _LONG, _BOOL = (
    ctypes.c_void_p,
    ctypes.c_float,
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_bool,
)
_IMAGES = (_LONG, _INT)  # rows, channels
_SIGNATURES = {
    "measure": (_POINTER, *_IMAGES, _POINTER, _POINTER, _FLOAT, _POINTER, _POINTER, _POINTER, _INT),
    "normalize": (
        _POINTER,
        _POINTER,
        _POINTER,
        *_IMAGES,
        _POINTER,
        _POINTER,
        _FLOAT,
        *[_POINTER] * 5,
        _BOOL,
        _INT,
    ),
    "normalize_backward": (_POINTER, _INT, *[_POINTER] * 2, *_IMAGES, *[_POINTER] * 5, _BOOL, _INT),
    "max_pool": (*[_POINTER] * 4, _INT),
    "max_pool_backward": (*[_POINTER] * 4, _INT),
    "average_pool": (*[_POINTER] * 3, _INT),
    "average_pool_backward": (*[_POINTER] * 3, _INT),
}
_CONVOLVE = (*[_POINTER] * 3, *[_LONG] * 3, *[_INT] * 3)
_UPDATE = (_INT, *[_POINTER] * 5, *[_FLOAT] * 4, _BOOL, _BOOL, _INT)


@cache
def library():
    """The loaded library, its functions typed; compiled first if needed. None: use PyTorch."""
    from .build import build_and_say

    path = library_path()
    if not path.exists() and not build_and_say():
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:  # another OpenMP or C++ library than the one it was built with
        return None
    for name, arguments in _SIGNATURES.items():
        for kind in ("float32", "bfloat16"):
            _declare(loaded, f"{name}_{kind}", arguments)
    for name in ("convolve_3x3", "convolve_3x3_backward", "convolve_3x3_backward_weights"):
        _declare(loaded, name, _CONVOLVE)
    _declare(loaded, "update_sgd", _UPDATE)
    return loaded


def _declare(loaded, name, arguments):
    function = getattr(loaded, name)
    function.argtypes, function.restype = arguments, None


def library_path() -> Path:
    """Where the library for these sources and this processor is, or will be.

    It is beside the sources, or in the user's cache folder if those are not writable.
    """
    digest = hashlib.sha256(_processor().encode())
    for path in sorted(FOLDER.glob("*.h")) + SOURCES:
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}.so"
    if (FOLDER / name).exists() or os.access(FOLDER, os.W_OK):
        return FOLDER / name
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home, "caffe", name)


def _processor():
    """What -march=native depends on: another machine must not load this one's library."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features"))}))
