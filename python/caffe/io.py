"""pycaffe's caffe.io: images in, blobs and datums to and from arrays, the Transformer.

Names, signatures and semantics are the original's; the reference for `resize_image` is the original
on scikit-image 0.18 (see the NOTE there). Needs numpy and OpenCV only; the original's `skimage`,
`resize` and `zoom` are here too, for scripts that take them from here, once they are installed.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, BinaryIO

import numpy as np

from caffe_plain import images
from caffe_plain.errors import CaffeError, DataError

from . import resampling
from .proto import caffe_pb2

# scikit-image's luma weights (ITU-R BT.709); OpenCV's own are BT.601.
_GRAY_WEIGHTS = np.array([0.2125, 0.7154, 0.0721])

# What the original's module took from other packages: name -> (module, its attribute).
_FOREIGN = {
    "skimage": ("skimage.io", None),
    "resize": ("skimage.transform", "resize"),
    "zoom": ("scipy.ndimage", "zoom"),
}


class MissingPackageError(CaffeError, AttributeError):
    """A name that comes from a package that is not installed."""


def __getattr__(name: str) -> Any:
    if name not in _FOREIGN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _FOREIGN[name]
    package = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        distribution = {"skimage": "scikit-image"}.get(package, package)
        raise MissingPackageError(
            f"caffe.io.{name} is {module}'s, which cannot be imported ({error}): pip install "
            f"{distribution}; load_image and resize_image do without it"
        ) from error
    return getattr(found, attribute) if attribute else importlib.import_module(package)


# Blobs and datums


def blobproto_to_array(blob, return_diff=False):
    """The data (or diff) of a BlobProto as an array in the blob's own shape."""
    if return_diff:
        values = blob.diff if len(blob.diff) else blob.double_diff
    else:
        values = blob.data if len(blob.data) else blob.double_data
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy):
        shape = tuple(getattr(blob, name) for name in legacy)
    else:
        shape = tuple(blob.shape.dim)
    array = np.array(values, dtype=float)
    if array.size != np.prod(shape, dtype=np.int64):
        part = "diff" if return_diff else "data"
        raise ValueError(
            f"BlobProto: shape {shape} needs {np.prod(shape, dtype=np.int64)} values, "
            f"but its {part} holds {array.size}"
        )
    return array.reshape(shape)


def array_to_blobproto(arr, diff=None):
    """An array (and a diff of the same shape) of any number of dimensions as a BlobProto."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist):
    """A list of arrays as a serialized BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist])
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str):
    """The arrays of a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr, label=None):
    """A (C, H, W) array as a Datum: uint8 becomes `data`, any other type becomes `float_data`."""
    if arr.ndim != 3:
        raise ValueError(f"array_to_datum: expected a (C, H, W) array, found shape {arr.shape}")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum):
    """The pixels of a raw Datum as (C, H, W): uint8 from `data`, else float from `float_data`.

    An encoded Datum (a JPEG or PNG file in `data`) is read by `caffe.files.datum.decode_datum`.
    """
    if len(datum.data):
        flat = np.frombuffer(datum.data, dtype=np.uint8).copy()
    else:
        flat = np.array(datum.float_data, dtype=float)
    shape = (datum.channels, datum.height, datum.width)
    if flat.size != np.prod(shape, dtype=np.int64):
        hint = " (it is encoded: use caffe.files.datum.decode_datum)" if datum.encoded else ""
        raise ValueError(f"datum_to_array: shape {shape} does not fit {flat.size} values{hint}")
    return flat.reshape(shape)


# Pre-processing


class Transformer:
    """Turns images (H, W, K) into net inputs (K, H, W) and back.

    inputs: name of each input blob -> its shape (N, K, H, W).
    """

    def __init__(self, inputs):
        self.inputs = inputs
        self.transpose = {}
        self.channel_swap = {}
        self.raw_scale = {}
        self.mean = {}
        self.input_scale = {}

    def _shape(self, in_):
        """The (N, K, H, W) of the input blob `in_`."""
        if in_ not in self.inputs:
            raise ValueError(f"{in_} is not one of the net inputs: {list(self.inputs)}")
        return tuple(self.inputs[in_])

    def preprocess(self, in_, data):
        """The image `data` (H', W', K) as the input blob `in_` takes it: float32 (K, H, W).

        In this order: resize, transpose, channel swap, raw scale, mean, input scale; each only
        where it was set. `data` itself is left as it is.
        """
        size = self._shape(in_)[2:]
        image = data.astype(np.float32)
        if image.shape[:2] != size:
            image = resize_image(image, size)
        if in_ in self.transpose:
            image = image.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            image = image[list(self.channel_swap[in_]), :, :]
        if self.raw_scale.get(in_) is not None:
            image *= self.raw_scale[in_]
        if in_ in self.mean:
            image -= self.mean[in_]
        if self.input_scale.get(in_) is not None:
            image *= self.input_scale[in_]
        return image

    def deprocess(self, in_, data):
        """Undo `preprocess` (except the resizing): (1, K, H, W) or (K, H, W) -> (H, W, K)."""
        self._shape(in_)
        image = data.copy().squeeze()
        if image.ndim == 2 and in_ in self.transpose:
            image = image[np.newaxis]  # a single channel that squeeze() took
        if self.input_scale.get(in_) is not None:
            image /= self.input_scale[in_]
        if in_ in self.mean:
            image += self.mean[in_]
        if self.raw_scale.get(in_) is not None:
            image /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_]), :, :]
        if in_ in self.transpose:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_, order):
        """Order of the dimensions: (2, 0, 1) turns (H, W, C) into (C, H, W)."""
        if len(order) != len(self._shape(in_)) - 1:
            raise ValueError(
                f"set_transpose({in_!r}): order {tuple(order)} needs to have the same "
                f"number of dimensions as the input, {len(self._shape(in_)) - 1}"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_, order):
        """Order of the channels after the transpose: (2, 1, 0) turns RGB into BGR."""
        if len(order) != self._shape(in_)[1]:
            raise ValueError(
                f"set_channel_swap({in_!r}): order {tuple(order)} needs to have as "
                f"many entries as the input has channels, {self._shape(in_)[1]}"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_, scale):
        """Factor before the mean is subtracted: 255 if the net takes [0, 255]."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_, mean):
        """The mean to subtract: one value per channel (K,), or per pixel (H, W) or (K, H, W).

        A per-pixel mean of another size than the input is resized to it.
        """
        shape = self._shape(in_)[1:]
        if mean.ndim == 1:
            if mean.shape[0] != shape[0]:
                raise ValueError(
                    f"set_mean({in_!r}): Mean channels incompatible with input: "
                    f"expected {shape[0]}, found {mean.shape[0]}"
                )
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        if mean.ndim not in (2, 3):
            raise ValueError(
                f"set_mean({in_!r}): Mean shape invalid: expected (K,), (H, W) or "
                f"(K, H, W), found {mean.shape}"
            )
        full = (1,) * (3 - mean.ndim) + mean.shape
        if full != shape:
            planes = mean.reshape(full).transpose(1, 2, 0)
            mean = resize_image(planes, shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_, scale):
        """Factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale


# Images


def load_image(filename: str | os.PathLike | BinaryIO, color: bool = True) -> np.ndarray:
    """An image as float32 in [0, 1]: (H, W, 3) in RGB, or (H, W, 1) if `color` is false.

    `filename` is a path, or a file object open for reading bytes. Gray images are repeated over
    the channels, alpha is dropped, and photos are turned upright, as convert_imageset stores them.
    """
    try:
        image = images.decode(_bytes_of(filename), color=None, upright=True)
    except ValueError as error:
        raise DataError(f"load_image: {filename}: {error}") from error
    if np.issubdtype(image.dtype, np.integer):
        image = image.astype(np.float64) / np.iinfo(image.dtype).max
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    else:
        image = image[:, :, 2::-1]  # BGR(A) -> RGB
        if not color:
            image = image @ _GRAY_WEIGHTS[:, np.newaxis]
    if color and image.shape[2] == 1:
        image = np.tile(image, (1, 1, 3))
    return np.ascontiguousarray(image, dtype=np.float32)


def _bytes_of(file: str | os.PathLike | BinaryIO) -> bytes:
    """What a path or a file object holds."""
    if hasattr(file, "read"):
        data = file.read()
        if isinstance(data, str):
            raise DataError(f"load_image: {file} gives text: open it for bytes, as in mode 'rb'")
        return data
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise DataError(
            f"load_image: {file}: {error.strerror}; the current folder is {os.getcwd()}"
        ) from error


def resize_image(im, new_dims, interp_order=1):
    """An (H, W, K) array at new_dims = (height, width), float32.

    interp_order: 0 nearest, 1 linear, 3 cubic. Arrays of 1 or 3 channels are images: their range
    is mapped to [0, 1], pixels are areas, beyond the border is 0, and shrinking smooths first.
    Other arrays keep their corner pixels in the corners and are not smoothed. NOTE: how the
    original shrinks depends on its scikit-image: from 0.15 on it smooths (anti-aliasing), before
    that it does not. This follows 0.18.
    """
    im = np.asarray(im)
    if im.shape[-1] not in (1, 3):
        return resampling.zoom(im.astype(np.float64), new_dims, interp_order).astype(np.float32)
    low, high = float(im.min()), float(im.max())
    if high <= low:
        return np.full((*new_dims, im.shape[-1]), low, dtype=np.float32)
    unit = resampling.resize_in_unit_range((im - im.min()) / (high - low), new_dims, interp_order)
    return (unit * (high - low) + low).astype(np.float32)


def oversample(images, crop_dims):
    """Ten crops of each image (H, W, K): four corners, centre, and the mirror image of each.

    images: iterable of arrays of one size; crop_dims: (height, width).
    Returns (10 N, height, width, K), float32.
    """
    images = list(images)
    height, width, channels = images[0].shape
    crop_height, crop_width = (int(size) for size in crop_dims)
    if crop_height > height or crop_width > width:
        raise ValueError(
            f"oversample: a crop of {crop_height} x {crop_width} does not fit into "
            f"an image of {height} x {width}"
        )
    bottom, right = height - crop_height, width - crop_width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((len(images), 2, 5, crop_height, crop_width, channels), dtype=np.float32)
    for image, out in zip(images, crops, strict=True):
        for k, (y, x) in enumerate(corners):
            out[0, k] = image[y : y + crop_height, x : x + crop_width]
        out[1] = out[0, :, :, ::-1]  # mirrored
    return crops.reshape(-1, crop_height, crop_width, channels)
