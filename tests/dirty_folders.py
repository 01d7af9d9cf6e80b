"""Folders of images as people have them, drawn: formats, orientations, names, trees and lists.

Every photo shows the same picture of flat cells, so the truth about its pixels is known, whatever
format, orientation or depth it is stored in. Each table says for its kinds the one right answer.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, features

CELL = 16  # pixels, aligned to the blocks of JPEG and its kin, which keep flat cells nearly exact
SIZE = (4 * CELL, 6 * CELL)
LOSSY = 9  # gray levels that the middle of a cell may be off where it is compressed


def picture(seed: int = 0) -> np.ndarray:
    """The upright picture: (64, 96, 3) in BGR order, of cells of different colours."""
    cells = np.random.RandomState(seed).randint(0, 256, (4, 6, 3)).astype(np.uint8)
    return cells.repeat(CELL, 0).repeat(CELL, 1)


class Photo(NamedTuple):
    """A file that can be read, and what it shows."""

    extension: str
    data: bytes
    pixels: np.ndarray  # (64, 96, 3) BGR, upright
    tolerance: int = 0
    plain: bool = True  # three channels of 8 bits, as every Data layer takes them


def check_pixels(found: np.ndarray, photo: Photo) -> None:
    """Compare pixels (H, W, 3) with what a photo shows; a lossy format is right within a cell."""
    assert found.shape == photo.pixels.shape
    apart = np.abs(found.astype(int) - photo.pixels)
    if photo.tolerance:
        apart = apart.reshape(4, CELL, 6, CELL, 3)[:, 4:-4, :, 4:-4]
    assert apart.max() <= photo.tolerance


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """An image as a file of Pillow's `format`."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# ---- what can be read ----------------------------------------------------------------------------

STORED = {  # how upright pixels lie in a file of that orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTED = {"JPEG": ("jpg", 95), "PNG": ("png", 0), "WEBP": ("webp", 95), "AVIF": ("avif", 95)}
FORMATS = {  # extension: format, options, tolerance
    "jpg": ("JPEG", {"quality": 95}, LOSSY),
    "JPEG": ("JPEG", {"quality": 95, "progressive": True}, LOSSY),
    "jpe": ("JPEG", {"quality": 95}, LOSSY),
    "jfif": ("JPEG", {"quality": 95}, LOSSY),
    "png": ("PNG", {}, 0),
    "bmp": ("BMP", {}, 0),
    "dib": ("BMP", {}, 0),
    "webp": ("WEBP", {"lossless": True}, 0),
    "tif": ("TIFF", {"compression": "tiff_lzw"}, 0),
    "tiff": ("TIFF", {}, 0),
    "ppm": ("PPM", {}, 0),
    "pnm": ("PPM", {}, 0),
    "gif": ("GIF", {}, 0),
    "jp2": ("JPEG2000", {}, 0),
    "avif": ("AVIF", {"quality": 95}, LOSSY),
}


def can_be_had(extension: str) -> bool:
    """Whether this OpenCV reads such files and this Pillow writes them; some builds do not."""
    if extension == "gif":
        return cv2.haveImageWriter(".gif")
    return extension != "avif" or features.check("avif") and cv2.haveImageWriter(".avif")


def photos() -> dict[str, Photo]:
    """{kind: a file that can be read}."""
    pixels = picture()
    image = Image.fromarray(pixels[:, :, ::-1])
    found = {
        f"format {extension}": Photo(extension, saved(image, name, **options), pixels, tolerance)
        for extension, (name, options, tolerance) in FORMATS.items()
        if can_be_had(extension)
    }
    for name, (extension, quality) in ORIENTED.items():
        for orientation, way in STORED.items() if can_be_had(extension) else ():
            exif = Image.Exif()
            exif[0x0112] = orientation
            options = {"quality": quality} if quality else {}
            data = saved(image.transpose(way), name, exif=exif, **options)
            tolerance = LOSSY if quality else 0
            found[f"{name} {orientation}"] = Photo(extension, data, pixels, tolerance)
    for orientation, way in STORED.items():
        data = saved(image.transpose(way), "TIFF", tiffinfo={0x0112: orientation})
        found[f"TIFF {orientation}"] = Photo("tif", data, pixels)
    return {**found, **_of_other_modes(image, pixels), **_with_more_bytes(image, pixels)}


def _of_other_modes(image: Image.Image, pixels: np.ndarray) -> dict[str, Photo]:
    """Gray, with alpha, with a palette, deep, of one bit."""
    gray = np.asarray(image.convert("L"))
    grays = np.repeat(gray[:, :, np.newaxis], 3, 2)
    black = np.where(grays < 128, 0, 255).astype(np.uint8)
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(255 - gray))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    return {
        "gray png": Photo("png", saved(image.convert("L"), "PNG"), grays, plain=False),
        "gray jpg": Photo("jpg", saved(image.convert("L"), "JPEG"), grays, LOSSY, plain=False),
        "gray pgm": Photo("pgm", saved(image.convert("L"), "PPM"), grays, plain=False),
        "alpha": Photo("png", saved(alpha, "PNG"), pixels, plain=False),
        "palette": Photo("png", saved(image.quantize(32), "PNG"), pixels),
        "deep": Photo("png", saved(deep, "PNG"), grays, plain=False),
        "bits": Photo(
            "pbm", saved(Image.fromarray(black[:, :, 0]).convert("1"), "PPM"), black, 0, False
        ),
    }


def _with_more_bytes(image: Image.Image, pixels: np.ndarray) -> dict[str, Photo]:
    """JPEGs with something before or after the picture."""
    thumbnail = saved(image.resize((24, 16)), "JPEG")
    jpeg = saved(image, "JPEG", quality=95)
    film = struct.pack(">I", 24) + b"ftypmp42" + bytes(range(256)) * 20
    before = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    return {
        "a film after it": Photo("jpg", jpeg + film, pixels, LOSSY),
        "another JPEG after it": Photo("jpg", jpeg + thumbnail, pixels, LOSSY),
        "a JPEG in its header": Photo("jpg", jpeg[:2] + before + jpeg[2:], pixels, LOSSY),
    }


# ---- what cannot be read -------------------------------------------------------------------------

HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(12) + bytes(range(200))


def unreadable() -> dict[str, bytes]:
    """{file name: content} of what make_list must leave out, by extension, and name."""
    return {
        "a.heic": HEIC,
        "b.HEIC": HEIC,
        "c.jxl": b"\xff\x0a" + bytes(50),
        "d.cr2": b"II*\0" + bytes(50),
        "e.svg": b"<svg/>",
        "notes.txt": b"hello",
        "Thumbs.db": b"",
        "no_extension": b"x",
    }


def bad_files() -> dict[str, tuple[bytes, str]]:
    """{kind: (a file called x.jpg, what is said of it)}."""
    jpeg = saved(Image.fromarray(picture()), "JPEG")
    thumbnail = jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(jpeg) + 2) + jpeg + jpeg[2:]
    return {
        "empty": (b"", "the file is empty"),
        "text": (b"hello", r"not an image that OpenCV can decode \(5 bytes\)$"),
        "page": (b"<html>404</html>", "text in HTML, XML or SVG: download or export the image"),
        "HEIC": (HEIC, "a HEIC photo: convert it to JPEG or PNG"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS: fetch the file"),
        "cut off": (jpeg[:-40], "damaged image: .*premature end"),
        "cut off, a thumbnail whole": (thumbnail[:-40], "damaged image: .*premature end"),
        "head alone": (jpeg[:100], r"not an image .* \(10[02] bytes"),
    }


# ---- names ---------------------------------------------------------------------------------------

NAMES = (  # of files and of classes; what is not UTF-8 is Latin-1 or random
    b"caf\xe9",
    b"\xff\xfe\x80",
    "Stra\xdfe".encode(),
    "line\u2028separator".encode(),
    "next\u0085line".encode(),
    b"carriage\rreturn",
    b" leading blank",
    b"blanks  in the  middle",
    b"tab\tin it",
    b"percent %d #1",
    "\U0001f600".encode(),
    b"-dash",
    b"x" * 200,
)


# ---- trees ---------------------------------------------------------------------------------------


def add(folder: Path, *names: str) -> None:
    """Image files below a folder, each of other pixels."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(Image.fromarray(picture(zlib.crc32(name.encode()))), "PNG"))


def _link(folder: Path, name: str, target: str) -> None:
    (folder / name).symlink_to(target)


class Tree(NamedTuple):
    """A folder of classes a and b, and what make_list says of it."""

    build: Callable[[Path], object]  # adds to a folder with a/1.png and b/1.png
    files: tuple[str, ...] = ("a/1.png", "b/1.png")  # that are listed
    said: str = ""  # what is left out, as a pattern
    error: str = ""  # or why there is no list


TREES = {
    "nested": Tree(
        lambda root: add(root, "a/deep/er/2.png"), ("a/1.png", "a/deep/er/2.png", "b/1.png")
    ),
    "a link to the parent": Tree(
        lambda root: _link(root, "a/loop", ".."), said=r"1 links to folders .* \(a/loop\)"
    ),
    "a link to itself": Tree(
        lambda root: _link(root, "a/loop", "loop"), said=r"1 broken links \(a/loop\)"
    ),
    "a link to another class": Tree(
        lambda root: _link(root, "a/b", "../b"), said=r"1 links to folders .* \(a/b\)"
    ),
    "a class that is a link": Tree(
        lambda root: _link(root, "c", "b"), said=r"1 links to folders .* \(c\)"
    ),
    "a link to images elsewhere": Tree(
        lambda root: (add(root.parent, "else/3.png"), _link(root, "a/more", "../../else")),
        ("a/1.png", "a/more/3.png", "b/1.png"),
    ),
    "two links to images elsewhere": Tree(
        lambda root: (
            add(root.parent, "else/3.png"),
            _link(root, "a/more", "../../else"),
            _link(root, "b/more", "../../else"),
        ),
        ("a/1.png", "a/more/3.png", "b/1.png"),
        said=r"1 links to folders .* \(b/more\)",
    ),
    "a link out and back": Tree(
        lambda root: (
            add(root.parent, "else/3.png"),
            _link(root.parent, "else/back", "../images"),
            _link(root, "a/more", "../../else"),
        ),
        ("a/1.png", "a/more/3.png", "b/1.png"),
        said=r"1 links to folders .* \(a/more/back\)",
    ),
    "a broken link": Tree(
        lambda root: _link(root, "a/2.png", "nowhere.png"), said=r"1 broken links \(a/2.png\)"
    ),
    "hidden": Tree(
        lambda root: add(root, "a/.thumbs/2.png", "b/._1.png", ".trash/2.png"),
        said=r"3 hidden files and folders \(.trash, a/.thumbs, b/._1.png\)",
    ),
    "thumbnails": Tree(
        lambda root: add(root, "a/@eaDir/1.png", "b/Thumbs/2.png", "__MACOSX/a/1.png"),
        said=r"3 folders of thumbnails and of the system \(__MACOSX, a/@eaDir, b/Thumbs\)",
    ),
    "a pipe": Tree(
        lambda root: os.mkfifo(root / "a/2.png"), said=r"1 .*neither files nor folders \(a/2.png\)"
    ),
    "a folder named as an image": Tree(
        lambda root: add(root, "a/x.png/2.png"), ("a/1.png", "a/x.png/2.png", "b/1.png")
    ),
    "a line break in a name": Tree(
        lambda root: add(root, "a/1\n2.png"), error=r"'a/1\\n2.png': a list file cannot hold"
    ),
    "a line break in a class": Tree(
        lambda root: add(root, "a\rb/1.png"), error=r"class 'a\\rb': .*rename the folder"
    ),
    "an empty class": Tree(
        lambda root: (root / "c").mkdir(), error="1 of 3 classes have no training image:\n  c"
    ),
    "a class of HEIC alone": Tree(
        lambda root: ((root / "c").mkdir(), (root / "c/1.heic").write_bytes(HEIC)),
        error=r"no training image:\n  c\n.*\nleft out: 1 .heic files \(c/1.heic\); OpenCV here",
    ),
    "loose images": Tree(
        lambda root: add(root, "1.png"), error="1 images outside the class folders"
    ),
}


# ---- lists ---------------------------------------------------------------------------------------

LISTS = {  # content: the names and labels in it, or what is wrong
    "plain": (b"a.png 0\nb.png 1\n", [(b"a.png", 0), (b"b.png", 1)]),
    "of Windows": (b"a.png 0\r\nb.png 1\r\n", [(b"a.png", 0), (b"b.png", 1)]),
    "with a mark": (b"\xef\xbb\xbfa.png 0\n", [(b"a.png", 0)]),
    "in UTF-16": ("a.png 0\n".encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "no line break at the end": (b"a.png 0", [(b"a.png", 0)]),
    "blank lines": (b"\na.png 0\n\n  \n", [(b"a.png", 0)]),
    "blanks in names": (b" a b.png 0\n", [(b" a b.png", 0)]),
    "a tab": (b"a.png\t0\n", [(b"a.png", 0)]),
    "separators of Unicode": (
        "a\u2028b\u0085c.png 3\n".encode(),
        [("a\u2028b\u0085c.png".encode(), 3)],
    ),
    "no label": (b"a.png 0\nb.png\n", "line 2, b.png: no label"),
    "a comma": (b"a.png,0\n", "line 1, a.png,0: no label"),
    "a fraction": (b"a.png 0.5\n", "label '0.5' is not an integer"),
    "a negative label": (b"a.png -1\n", "label -1 is not between"),
    "empty": (b"", "no images in this list"),
}

CLASS_FILES = {  # content of a classes.txt: the names in it, or what is wrong
    "plain": (b"a\nb\n", ["a", "b"]),
    "of Windows": (b"a\r\nb\r\n", ["a", "b"]),
    "with a mark": (b"\xef\xbb\xbfa\nb", ["a", "b"]),
    "in UTF-16": ("a\nb\n".encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "separators of Unicode": ("a\u2028\nb\u0085c\n".encode(), ["a\u2028", "b\u0085c"]),
    "not UTF-8": (b"caf\xe9\nb\n", [os.fsdecode(b"caf\xe9"), "b"]),
    "blank lines at the end": (b"a\nb\n\n \n", ["a", "b"]),
}
