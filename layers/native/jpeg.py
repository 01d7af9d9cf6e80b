"""Windows of JPEG images with crop_jpeg.c, where that can be compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_plain.native import NativeLibrary, NotCompiled

from . import FOLDER, compile_c

_DONE, _NOT_FOR_US, _DAMAGED = range(3)
_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_long


def open_decoder() -> PartialDecoder | None:
    """A PartialDecoder, or None where its library cannot be had."""
    library = LIBRARY.load()
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
                "no decoder; libjpeg has another version than it was compiled with: delete "
                f"{LIBRARY.path}"
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


def check(decoder: PartialDecoder) -> None:
    """Compare windows of some images with what OpenCV decodes; NotCompiled if they differ."""
    import cv2

    random = np.random.RandomState(0)
    for quality, size in ((30, (50, 70)), (75, (64, 48)), (95, (90, 121))):
        image = cv2.resize(random.randint(0, 256, (9, 7, 3)).astype(np.uint8), size[::-1])
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for top, left in ((0, 0), (11, 17)):
            found = decoder.begin(data) == size and decoder.cut((top, left, 31, 29), 3)
            if not np.array_equal(found, whole[top : top + 31, left : left + 29]):
                raise NotCompiled("this libjpeg decodes to other pixels than OpenCV's")


def _compile(sources: Sequence[Path], path: Path) -> None:
    try:
        import cv2  # noqa: F401 else there is nothing to check it with
    except ImportError as error:
        raise NotCompiled(f"no OpenCV to compare its pixels with: {error}") from None
    compile_c(sources, path, ["-ljpeg"])
    try:
        check(PartialDecoder(ctypes.CDLL(str(path))))
    except ValueError as error:
        raise NotCompiled(f"this libjpeg finds good images damaged: {error}") from None


LIBRARY = NativeLibrary(
    "crop_jpeg", [FOLDER / "crop_jpeg.c"], _compile, "OpenCV or Pillow does its work, slower"
)
