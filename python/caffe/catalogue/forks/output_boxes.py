"""Boxes in parts of a resized image, back in pixels of the image that it was made of (SSD)."""

from __future__ import annotations

import numpy as np

from caffe_plain.errors import DataError

from ...layer import TensorLayer
from ...proto import caffe_pb2

_MODE = caffe_pb2.ResizeParameter


def read_sizes(layer: TensorLayer, path: str) -> list[tuple[int, int]]:
    """(height, width) of each line NAME HEIGHT WIDTH of a name_size_file; DataError if wrong."""
    found = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in filter(str.strip, file):
                _, height, width = line.rsplit(maxsplit=2)
                found.append((int(height), int(width)))
    except OSError as error:
        raise DataError(f"layer {layer.name!r}: name_size_file {path}: {error.strerror}") from None
    except ValueError:
        raise DataError(
            f"layer {layer.name!r}: {path}: expected lines NAME HEIGHT WIDTH; found "
            f"{line.strip()!r}"
        ) from None
    if not found:
        raise DataError(f"layer {layer.name!r}: name_size_file {path} is empty")
    return found


def in_pixels(boxes: np.ndarray, size: tuple[int, int], options) -> np.ndarray:
    """The boxes (N, 4), which are in parts of a resized image, in pixels of one of `size`.

    size: height and width; options: a message with a resize_param, which says what was padded.
    """
    height, width = size
    param = options.resize_param
    if options.HasField("resize_param") and param.resize_mode == _MODE.FIT_LARGE_SIZE_AND_PAD:
        boxes = _without_padding(boxes, size, param)
    scale = np.array([width, height] * 2, float)
    fits_small = options.HasField("resize_param") and param.resize_mode == _MODE.FIT_SMALL_SIZE
    if fits_small and param.height_scale and param.width_scale:
        return np.clip(boxes * ([param.width_scale, param.height_scale] * 2), 0, scale)
    return np.clip(boxes, 0, 1) * scale


def _without_padding(boxes: np.ndarray, size: tuple[int, int], param) -> np.ndarray:
    own, made = size[1] / size[0], param.width / param.height  # width / height
    share = np.array([1, made / own] if own > made else [own / made, 1])  # of the image: x, y
    return (boxes - np.tile((1 - share) / 2, 2)) / np.tile(share, 2)
