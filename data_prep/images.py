"""One image file to the bytes of a Datum, exactly as the original convert_imageset makes them.

Runs in worker processes: imports neither caffe nor lmdb.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Callable, NamedTuple

import cv2
import numpy as np

# What the JPEG and PNG libraries write to stderr where the pixels cannot be trusted.
_DAMAGE = re.compile(r"(Corrupt JPEG data|Premature end of JPEG|libpng error)[^\n]*")

Shape = tuple[int, int, int]  # channels, height, width


class Options(NamedTuple):
    """What a file becomes."""

    gray: bool  # read one channel
    height: int  # resize to, or 0
    width: int
    short: int  # resize the shorter side to, or 0
    encoding: str | None  # None for raw pixels, "" to keep the file's own, or jpg, png, ...
    keep_damaged: bool  # take what the decoder makes of a damaged file


class Image(NamedTuple):
    """What a file has become."""

    data: bytes  # raw pixels in (C, H, W) order, or an encoded file
    shape: Shape


class _BadImage(Exception):
    """Why a file gives no record."""


def read_image(options: Options, path: str) -> Image | str:
    """The Image in the file `path`, or the reason (a string) why there is none."""
    try:
        return _read_image(options, path)
    except _BadImage as reason:
        return str(reason)
    except OSError as error:
        return error.strerror
    except cv2.error as error:
        return f"OpenCV: {error.err}"


def _read_image(options: Options, path: str) -> Image:
    pixels = _decode(path, options)
    original = pixels
    if options.height and options.width:
        pixels = cv2.resize(pixels, (options.width, options.height))
    elif options.short:
        pixels = _resize_short(pixels, options.short)
    shape = (1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])
    if options.encoding is None:
        planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return Image(planes.tobytes(), shape)
    own = _extension(path)
    wanted = options.encoding or own
    if not wanted:
        raise _BadImage("the name has no extension to guess the encoding from: give -encode_type")
    resized = bool(options.height and options.width) or pixels is not original
    if not resized and _same_format(own, wanted):
        with open(path, "rb") as file:
            return Image(file.read(), shape)
    return Image(_encode(pixels, wanted), shape)


def _decode(path: str, options: Options) -> np.ndarray:
    if not os.path.isfile(path):
        raise _BadImage("no such file")
    flags = cv2.IMREAD_GRAYSCALE if options.gray else cv2.IMREAD_COLOR
    if not os.path.getsize(path):
        raise _BadImage("the file is empty")
    return _watched(partial(cv2.imread, path, flags), os.path.getsize(path), options.keep_damaged)


def _watched(decode: Callable[[], np.ndarray | None], size: int, keep_damaged: bool) -> np.ndarray:
    """The pixels that `decode` gets from `size` bytes, unless it reports damage."""
    with _decoder_messages() as messages:
        pixels = decode()
    damage = _DAMAGE.search(messages())
    if pixels is None:
        detail = f": {damage.group()}" if damage else ""
        raise _BadImage(f"not an image that OpenCV can decode ({size} bytes){detail}")
    if damage and not keep_damaged:
        raise _BadImage(f"damaged image: {damage.group()}")
    return pixels


def check_image(data: bytes | memoryview) -> Shape | str:
    """The shape (C, H, W) of the image file in `data`, or the reason why it cannot be trusted."""
    try:
        encoded = np.frombuffer(data, np.uint8)
        if not encoded.size:
            return "an empty image"
        pixels = _watched(partial(cv2.imdecode, encoded, cv2.IMREAD_UNCHANGED), encoded.size, False)
    except _BadImage as reason:
        return str(reason)
    except cv2.error as error:
        return f"OpenCV: {error.err}"
    return (1 if pixels.ndim == 2 else pixels.shape[2], *pixels.shape[:2])


def _resize_short(pixels: np.ndarray, short: int) -> np.ndarray:
    """The shorter side at `short` pixels, the longer in proportion; shrinking averages areas."""
    height, width = pixels.shape[:2]
    scale = short / min(height, width)
    if scale == 1:
        return pixels
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _encode(pixels: np.ndarray, extension: str) -> bytes:
    if not cv2.haveImageWriter("." + extension):
        raise _BadImage(f"OpenCV cannot encode .{extension}: give -encode_type jpg or png")
    return cv2.imencode("." + extension, pixels)[1].tobytes()


def _extension(path: str) -> str:
    name = os.path.basename(path)
    return name.rpartition(".")[2].lower() if "." in name else ""


def _same_format(first: str, second: str) -> bool:
    return first.replace("jpeg", "jpg") == second.lower().replace("jpeg", "jpg")


@contextmanager
def _decoder_messages() -> Iterator[Callable[[], str]]:
    """What is written to stderr meanwhile, by C libraries too; OpenCV reports damage only there."""
    scratch, stderr = _scratch()
    os.truncate(scratch, 0)
    os.lseek(scratch, 0, os.SEEK_SET)
    os.dup2(scratch, 2)

    def messages() -> str:
        os.lseek(scratch, 0, os.SEEK_SET)
        return os.read(scratch, 1 << 16).decode("utf-8", "replace")

    try:
        yield messages
    finally:
        os.dup2(stderr, 2)


@lru_cache
def _scratch() -> tuple[int, int]:
    """Handles of a temporary file and of stderr, for the life of this process."""
    handle, path = tempfile.mkstemp()
    os.unlink(path)
    return handle, os.dup(2)
