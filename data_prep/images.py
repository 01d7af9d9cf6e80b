"""One image file to the bytes of a Datum, as the original convert_imageset makes them.

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

from caffe_plain.images import decode, is_turned, with_end

# What the JPEG and PNG libraries write to stderr where the pixels cannot be trusted.
_DAMAGE = re.compile(r"(Corrupt JPEG data|Premature end of JPEG|libpng error)[^\n]*")

# What OpenCV does not write, or writes with 256 colours, and what it becomes when it is resized.
_WRITTEN_AS = {"jfif": "jpg", "gif": "png"}

Shape = tuple[int, int, int]  # channels, height, width


class Options(NamedTuple):
    """What a file becomes."""

    gray: bool  # read one channel
    height: int  # resize to, or 0
    width: int
    short: int  # resize the shorter side to, or 0
    encoding: str | None  # None for raw pixels, "" to keep the file's own, or jpg, png, ...
    keep_damaged: bool  # take what the decoder makes of a damaged file
    keep_exif: bool = False  # do with what is not upright as the original does


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
    data = _bytes_of(path)
    color = not options.gray
    upright = not options.keep_exif or data[:2] == b"\xff\xd8"  # the original turns JPEG alone
    pixels = _watched(partial(decode, with_end(data), color, upright), options.keep_damaged)
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
    lying = is_turned(data) and not options.keep_exif  # whoever reads its pixels later
    if not resized and not lying and _same_format(own, wanted):
        return Image(data, shape)
    if lying and not resized and not options.encoding:
        wanted = "png"  # loses nothing
    return Image(_encode(pixels, wanted), shape)


def _bytes_of(path: str) -> bytes:
    if not os.path.isfile(path):
        raise _BadImage("no such file")
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        raise _BadImage("the file is empty")
    return data


def _watched(decode: Callable[[], np.ndarray], keep_damaged: bool) -> np.ndarray:
    """The pixels that `decode` gets, unless it reports damage."""
    pixels = reason = None
    with _decoder_messages() as messages:
        try:
            pixels = decode()
        except ValueError as error:
            reason = str(error)
    damage = _DAMAGE.search(messages())
    if reason:
        raise _BadImage(f"{reason}: {damage.group()}" if damage else reason)
    if damage and not keep_damaged:
        raise _BadImage(f"damaged image: {damage.group()}")
    return pixels


def check_image(data: bytes | memoryview, color: bool | None = None) -> np.ndarray | str:
    """The pixels of an image file as a Data layer decodes them, or why they cannot be trusted.

    color: None keeps the file's own channels, True and False are force_color and force_gray.
    """
    if not len(data):
        return "an empty image"
    try:
        return _watched(partial(decode, data, color, upright=color is not None), False)
    except _BadImage as reason:
        return str(reason)
    except cv2.error as error:
        return f"OpenCV: {error.err}"


def _resize_short(pixels: np.ndarray, short: int) -> np.ndarray:
    """The shorter side at `short` pixels, the longer in proportion; shrinking averages areas."""
    height, width = pixels.shape[:2]
    scale = short / min(height, width)
    if scale == 1:
        return pixels
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _encode(pixels: np.ndarray, extension: str) -> bytes:
    extension = _WRITTEN_AS.get(extension, extension)
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
