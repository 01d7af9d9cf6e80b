"""The idx files of MNIST: images and labels as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relaybp.data_prep.errors import PrepError

_BYTES = 0x800  # what the first number of a file says of its values; the count of axes is added


def read_idx(path: str | Path, axes: int, what: str) -> np.ndarray:
    """The array of bytes, of that many axes, in an idx file. what: its name for errors."""
    data = np.fromfile(path, np.uint8)
    header = data[: 4 * (1 + axes)].tobytes().ljust(4 * (1 + axes), b"\0")
    magic, *shape = np.frombuffer(header, ">u4").tolist()
    if magic != _BYTES + axes:
        raise PrepError(
            f"{path}: expected {what}, whose first number is {_BYTES + axes}, found {magic}; "
            "give the images first, then the labels, both unpacked (gunzip)"
        )
    values = data[len(header) :]
    if values.size != np.prod(shape):
        raise PrepError(
            f"{path}: expected {' x '.join(map(str, shape))} bytes of {what}, found "
            f"{values.size}; download it again"
        )
    return values.reshape(shape)


def read_mnist(images: str | Path, labels: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (N, H, W) and labels (N,) of a pair of files."""
    pixels, numbers = read_idx(images, 3, "images"), read_idx(labels, 1, "labels")
    if len(pixels) != len(numbers):
        raise PrepError(
            f"{images} has {len(pixels)} images, {labels} {len(numbers)} labels; give two files "
            "that belong together"
        )
    return pixels, numbers
