"""Windows of JPEG images with crop_jpeg.c, where that has been built; see build.py."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from . import load

_DONE, _NOT_FOR_US, _DAMAGED = range(3)
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long


def open_decoder() -> PartialDecoder | None:
    """A PartialDecoder, or None where the library has not been built."""
    library = load("crop_jpeg")
    return None if library is None else PartialDecoder(library)


class PartialDecoder:
    """Decodes windows of baseline JPEGs, with the pixels of a whole decode; for one thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.decoder_new.restype = _POINTER
        library.decoder_begin.argtypes = [
            _POINTER,
            _POINTER,
            ctypes.c_ulong,
            *[ctypes.POINTER(_INT)] * 2,
        ]
        library.decoder_cut.argtypes = [_POINTER, *[_INT] * 5, _POINTER, _LONG]
        library.decoder_message.argtypes = [_POINTER]
        library.decoder_message.restype = ctypes.c_char_p
        self._decoder = library.decoder_new()
        if not self._decoder:
            raise OSError(
                "no decoder; libjpeg has another version than it was built with: run "
                "python -m relaybp.layers.native.build again"
            )
        self._height, self._width = _INT(), _INT()
        self._data = self._pixels = np.empty(0, np.uint8)

    def begin(self, data: bytes | memoryview) -> tuple[int, int] | None:
        """(height, width) of the JPEG in the bytes `data`, or None: decode it another way."""
        self._data = np.frombuffer(data, np.uint8)  # stays where it is until the next one
        status = self._library.decoder_begin(
            self._decoder, self._data.ctypes.data, self._data.size, self._height, self._width
        )
        return None if status else (self._height.value, self._width.value)

    def cut(self, window: Sequence[int], channels: int) -> np.ndarray:
        """The pixels (h, w, channels) of a window (top, left, height, width), until the next call.

        channels: 3, blue, green, red, or 1, gray. Call it once after `begin`. ValueError if
        damaged.
        """
        height, width = window[2:]
        size = height * width * channels
        if self._pixels.size < size:  # kept, because new memory costs more than filling it
            self._pixels = np.empty(size, np.uint8)
        status = self._library.decoder_cut(
            self._decoder, *window, channels, self._pixels.ctypes.data, width * channels
        )
        if status == _DAMAGED:
            message = self._library.decoder_message(self._decoder).decode("ascii", "replace")
            raise ValueError(f"damaged image: {message}")
        if status == _NOT_FOR_US:
            raise ValueError(f"no window {window} in {self._height.value} x {self._width.value}")
        return self._pixels[:size].reshape(height, width, channels)
