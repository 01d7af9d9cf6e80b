"""Windows of JPEG images with crop_jpeg.c, where that has been built; see build.py."""

import ctypes
import hashlib
import os
import platform

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(FOLDER, "crop_jpeg.c")

_DONE, _NOT_FOR_US, _DAMAGED = range(3)
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long


def library_path():
    """Where the library for this source and this processor lies."""
    with open(SOURCE, "rb") as file:
        digest = hashlib.sha256(file.read() + platform.machine().encode()).hexdigest()
    return os.path.join(FOLDER, f"crop_jpeg-{digest[:16]}.so")


def open_decoder():
    """A PartialDecoder, or None where the library has not been built."""
    path = library_path()
    try:
        return PartialDecoder(path) if os.path.exists(path) else None
    except OSError:  # built for another libjpeg or C library than this machine has now
        return None


class PartialDecoder:
    """Decodes windows of baseline JPEGs, with the pixels of a whole decode; for one thread."""

    def __init__(self, path):
        self._library = library = ctypes.CDLL(path)
        library.decoder_new.restype = _POINTER
        library.decoder_begin.argtypes = [_POINTER, _POINTER, ctypes.c_ulong,
                                          *[ctypes.POINTER(_INT)] * 2]
        library.decoder_cut.argtypes = [_POINTER, *[_INT] * 5, _POINTER, _LONG]
        library.decoder_message.argtypes = [_POINTER]
        library.decoder_message.restype = ctypes.c_char_p
        self._decoder = library.decoder_new()
        if not self._decoder:
            raise OSError(f"{path}: no decoder; libjpeg has another version than it was built with")
        self._height, self._width = _INT(), _INT()
        self._data, self._pixels = None, np.empty(0, np.uint8)

    def begin(self, data):
        """(height, width) of the JPEG in the bytes `data`, or None: decode it some other way."""
        self._data = np.frombuffer(data, np.uint8)  # stays where it is until the next one
        status = self._library.decoder_begin(self._decoder, self._data.ctypes.data,
                                             self._data.size, self._height, self._width)
        return None if status else (self._height.value, self._width.value)

    def cut(self, window, channels):
        """The pixels (h, w, channels) of a window (top, left, height, width), until the next call.

        channels: 3, blue, green, red, or 1, gray. Call it once after `begin`. ValueError: damage.
        """
        height, width = window[2:]
        size = height * width * channels
        if self._pixels.size < size:  # kept, for new memory costs more than filling it
            self._pixels = np.empty(size, np.uint8)
        status = self._library.decoder_cut(self._decoder, *window, channels,
                                           self._pixels.ctypes.data, width * channels)
        if status == _DAMAGED:
            message = self._library.decoder_message(self._decoder).decode("ascii", "replace")
            raise ValueError(f"damaged image: {message}")
        if status == _NOT_FOR_US:
            raise ValueError(f"no window {window} in {self._height.value} x {self._width.value}")
        return self._pixels[:size].reshape(height, width, channels)
