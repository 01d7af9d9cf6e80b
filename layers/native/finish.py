"""Bytes to floats with finish.c, where that can be compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Callable

import numpy as np

from caffe_plain.native import NativeLibrary

from . import FOLDER, compile_c

LIBRARY = NativeLibrary(
    "finish", [FOLDER / "finish.c"], compile_c, "numpy and PyTorch do its work, slower"
)
_POINTER, _FLOAT, _LONG = ctypes.c_void_p, ctypes.c_float, ctypes.c_long


def open_finish() -> Callable | None:
    """finish_images with its library, or None where that cannot be had."""
    library = LIBRARY.load()
    if library is None:
        return None
    library.finish.argtypes = [_POINTER, _POINTER, _LONG, _POINTER, _FLOAT, _POINTER, _LONG, _LONG]
    library.finish.restype = None

    def finish_images(
        pixels: np.ndarray,
        means: Iterable[np.ndarray | None],
        shifts: np.ndarray | None,
        scale: float,
    ) -> np.ndarray:
        """(x - mean + shift) * scale of bytes (N, h, count) as floats.

        means: of each image, (1 or h, count) or None; shifts: (N, count) or None; all float32.
        """
        out = np.empty(pixels.shape, np.float32)
        images, rows, count = pixels.shape
        zeros = np.zeros((1, count), np.float32)
        if shifts is None:
            shifts = np.broadcast_to(zeros, (images, count))
        for image, mean, shift, values in zip(pixels, means, shifts, out):
            mean = zeros if mean is None else mean
            stride = 0 if len(mean) == 1 else mean.strides[0] // mean.itemsize
            library.finish(
                image.ctypes.data,
                mean.ctypes.data,
                stride,
                shift.ctypes.data,
                scale,
                values.ctypes.data,
                rows,
                count,
            )
        return out

    return finish_images
