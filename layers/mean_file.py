"""The mean image in a BlobProto file, as Caffe's compute_image_mean makes it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from .errors import SceneError


def read_mean(pb: Any, path: str | os.PathLike) -> np.ndarray:
    """The image (C, H, W) of a mean file; pb: caffe_pb2."""
    blob = pb.BlobProto()
    try:
        with open(path, "rb") as file:
            blob.ParseFromString(file.read())
        shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
        return np.array(blob.data, np.float32).reshape(shape[-3:])
    except (OSError, ValueError, DecodeError) as error:
        raise SceneError(
            f"mean_file {path}: {error}; expected one image, as compute_image_mean makes it"
        ) from error


def channel_means(pb: Any, path: str | os.PathLike) -> list[float]:
    """The mean of each channel of a mean file's image, to three decimals."""
    return [round(float(value), 3) for value in read_mean(pb, path).mean((1, 2), np.float64)]
