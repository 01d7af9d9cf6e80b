"""The engine's own CPU kernels, compiled by `make setup` or at first use.

Once for each kind of processor. Without a compiler, or if it fails, PyTorch does the same work in
more passes over memory.
"""

import ctypes
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from caffe_plain.native import NativeLibrary, run_compiler

COMPILE = [
    "g++",
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fopenmp",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-c",
]
LINK = ["g++", "-shared"]  # NOTE: no -fopenmp: the calls must find PyTorch's OpenMP, not a second

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
    "normalize_response": (_POINTER, _POINTER, *_IMAGES, _INT, *[_FLOAT] * 3, _INT),
    "max_pool": (*[_POINTER] * 4, _INT),
    "max_pool_backward": (*[_POINTER] * 4, _INT),
    "average_pool": (*[_POINTER] * 3, _INT),
    "average_pool_backward": (*[_POINTER] * 3, _INT),
}
_CONVOLVE = (*[_POINTER] * 3, *[_LONG] * 3, *[_INT] * 3)
_STEPS = (
    "convolve_packed",
    "convolve_winograd",
    "multiply_packed",
    "convolve_channels",
    "pool_largest",
    "pool_average",
    "softmax",
    "convolve_tiles",
    "convolve_tiles_bf16",
    "convolve_channels_bf16",
    "pool_largest_bf16",
    "pool_average_bf16",
    "softmax_bf16",
)
_UPDATE = (_INT, *[_POINTER] * 5, *[_FLOAT] * 4, _BOOL, _BOOL, _INT)


def _compile(sources: Sequence[Path], path: Path) -> None:
    objects = [str(path.with_name(source.stem + ".o")) for source in sources]
    for source, target in zip(sources, objects, strict=True):
        run_compiler([*COMPILE, str(source), "-o", target])
    run_compiler([*LINK, *objects, "-o", str(path)])


def _processor() -> str:
    """What -march=native depends on: another machine must not load this one's library."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features"))}))


LIBRARY = NativeLibrary(
    "kernels",
    sorted(Path(__file__).parent.glob("*.cpp")),
    _compile,
    "PyTorch does their work, in more passes over memory",
    _processor(),
)


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library, its functions typed; compiled first if needed. None: use PyTorch."""
    loaded = LIBRARY.load()
    if loaded is None:
        return None
    for name, arguments in _SIGNATURES.items():
        for kind in ("float32", "bfloat16"):
            _declare(loaded, f"{name}_{kind}", arguments)
    for name in ("convolve_3x3", "convolve_3x3_backward", "convolve_3x3_backward_weights"):
        _declare(loaded, name, _CONVOLVE)
    for name in _STEPS:
        _declare(loaded, name, (_POINTER, _INT))
    _declare(loaded, "transform_weights", (_POINTER, *[_LONG] * 4, _INT, _INT, _POINTER, _INT))
    _declare(loaded, "run_steps", (_POINTER, _POINTER, _INT, _INT))
    _declare(loaded, "update_sgd", _UPDATE)
    loaded.has_tiles.restype = ctypes.c_bool
    return loaded


def _declare(loaded, name, arguments):
    function = getattr(loaded, name)
    function.argtypes, function.restype = arguments, None
