"""Images with a label for each pixel, from a list of files: ImageSegData, DenseImageData."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe_plain.errors import DataError

from ... import device
from ...layer import Shape, register
from ...proto import caffe_pb2
from ..data.image import ImageReader, read_image
from ..data.prefetch import PrefetchedSource
from ..data.records import stack
from ..data.transform import DataTransformer

_LABEL = caffe_pb2.ImageDataParameter
_MOST = 255  # labels are bytes


class _Batch(NamedTuple):
    """What the reader's thread hands over."""

    pixels: Tensor  # (N, C, H, W)
    places: Tensor  # (N, 3): where each was cut
    labels: Tensor  # (N, 1, H, W) bytes
    sizes: Tensor  # (N, 1, 1, 2) float: height and width of each image


class _DenseImages(PrefetchedSource):
    """A layer of images with a label for each pixel; a derived class says where options stand."""

    top_count = (1, 3)
    label_type = _LABEL.PIXEL
    ignore_label = 255

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if not options.source or options.batch_size < 1:
            raise self.error("source (the list of images and labels) and batch_size must be given")
        if bool(options.new_height) != bool(options.new_width):
            raise self.error(
                "give both new_height and new_width, or neither; found "
                f"{options.new_height} and {options.new_width}"
            )
        if self.layer_param.transform_param.mean_file:
            raise self.error("takes no mean_file, whose size images need not have; give mean_value")
        self.reader = _DenseReader(self, self.transformer())
        if options.rand_skip:
            self.position = int(np.random.default_rng(self.seed).integers(options.rand_skip))

    def transformer(self) -> DataTransformer:
        """What crops and mirrors images and labels alike."""
        return DataTransformer(self)

    def names(self, position: int) -> list[str]:
        """What the records of the batch at `position` are called."""
        return self.reader.names(position)


@register
class ImageSegData(_DenseImages):
    """The images of a list, with a label for each pixel.

    tops: data (batch_size, C, H, W), labels (batch_size, 1, H, W), and if there is a third one the
    height and width of each image before it is padded, (batch_size, 1, 1, 2). Each line of
    `source` is an image and, with label_type PIXEL, a gray image of labels of the same size; with
    IMAGE a label of all its pixels; with NONE, the default, nothing: all pixels get ignore_label.
    Images smaller than the crop are padded at right and bottom with mean_value and ignore_label.
    Options: image_data_param, transform_param (see DataTransformer). DeepLab, PSPNet.
    """

    param_name = "image_data_param"
    fork_fields = ("label_type", "ignore_label", "crop_h", "crop_w")

    def setup(self, *shapes: Shape) -> None:
        self.label_type, self.ignore_label = self.options.label_type, self.options.ignore_label
        if not 0 <= self.ignore_label <= _MOST:
            raise self.error(
                f"ignore_label must be at least 0 and at most {_MOST}, as all labels; found "
                f"{self.ignore_label}"
            )
        super().setup(*shapes)


@register
class DenseImageData(_DenseImages):
    """The images of a list, with a label for each pixel.

    tops: data (batch_size, C, H, W) and labels (batch_size, 1, H, W). Each line of `source` is an
    image and a gray image of labels of the same size. Options: dense_image_data_param, whose
    crop_height, crop_width and mirror are those of transform_param by other names, and
    transform_param. SegNet, ENet.
    """

    top_count = (1, 2)
    param_name = "dense_image_data_param"
    fork_fields = ("crop_height", "crop_width", "mirror", "crop_h", "crop_w")

    def transformer(self) -> DataTransformer:
        options = self.options
        made = DataTransformer(self)
        if bool(options.crop_height) != bool(options.crop_width):
            raise self.error("give both crop_height and crop_width, or neither")
        if options.crop_height:
            made.crop, made.random_crop = (options.crop_height, options.crop_width), self.training
        made.mirror = made.mirror or options.mirror
        return made


class _DenseReader(ImageReader):
    """A record's label is its labels (1, H, W)."""

    def __init__(self, layer: _DenseImages, transformer: DataTransformer) -> None:
        self.label_type, self.ignore_label = layer.label_type, layer.ignore_label
        super().__init__(layer, transformer)

    def _parse(self, number: int, line: str) -> tuple[str, str]:
        parts = line.split()
        wanted = 1 if self.label_type == _LABEL.NONE else 2
        is_label = self.label_type != _LABEL.IMAGE or (len(parts) > 1 and parts[1].isdecimal())
        if len(parts) < wanted or not is_label:
            kind = _LABEL.LabelType.Name(self.label_type)
            raise DataError(
                f"{self.where}: {self.options.source}, line {number}: label_type {kind} needs "
                f"{'an image' if wanted == 1 else 'an image and its label'}; found {line!r}"
            )
        if self.label_type == _LABEL.IMAGE and int(parts[1]) > _MOST:
            raise DataError(
                f"{self.where}: {self.options.source}, line {number}: a label of pixels is at most "
                f"{_MOST}; found {parts[1]}"
            )
        return parts[0], parts[1] if wanted == 2 else ""

    def _read(self, path: str, label: str) -> tuple[np.ndarray, np.ndarray]:
        pixels = self._scaled(read_image(self.where, path, self.options.is_color), True)
        labels = self._labels(label, pixels.shape[:2])
        if labels.shape != pixels.shape[:2]:
            raise DataError(
                f"{self.where}: labels {self._path(label)} have height and width {labels.shape}, "
                f"image {path} {pixels.shape[:2]}; they must be equal"
            )
        planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return planes, labels[np.newaxis]

    def _labels(self, label: str, size: tuple[int, int]) -> np.ndarray:
        if self.label_type == _LABEL.PIXEL:
            return self._scaled(self._label_image(self._path(label)), False)
        value = int(label) if self.label_type == _LABEL.IMAGE else self.ignore_label
        return np.full(size, value, np.uint8)

    def _label_image(self, path: str) -> np.ndarray:
        """The labels (H, W) of a gray image."""
        pixels = read_image(self.where, path, True)
        if (pixels != pixels[..., :1]).any():
            raise DataError(
                f"{self.where}: labels {path} are in colour, or have a palette as VOC's own; "
                "expected gray pixels that are the labels. Convert them first: with a palette, "
                "PIL.Image.fromarray(numpy.array(PIL.Image.open(PATH))) is such an image"
            )
        return np.ascontiguousarray(pixels[..., 0])

    def _path(self, name: str) -> str:
        return self.options.root_folder + name

    def _scaled(self, image: np.ndarray, smooth: bool) -> np.ndarray:
        if not self.options.new_height:
            return image
        size = (self.options.new_width, self.options.new_height)
        return cv2.resize(
            image, size, interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
        )

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the tops, by the first record."""
        with closing(self.records(0, 1)) as records:
            pixels, _, name = next(records)
        shape = self.transformer.shape(self._padded(pixels, 0).shape, name)
        count = self.batch_size
        return [(count, *shape), (count, 1, *shape[1:]), (count, 1, 1, 2)]

    def _batch(self, records: Sequence[tuple], draws: np.random.Generator) -> _Batch:
        cuts, labels, places, sizes = [], [], [], []
        mean = self.transformer.mean
        fill = 0 if mean is None else np.rint(mean.reshape(-1, 1, 1))
        for pixels, label, name in records:
            sizes.append(pixels.shape[1:])
            padded = self._padded(pixels, fill)
            self.transformer.shape(padded.shape, name)  # which checks it
            draw = draws.random(3)
            cut, place = self.transformer.cut(padded, draw)
            cuts.append(cut)
            places.append(place)
            labels.append(self.transformer.cut(self._padded(label, self.ignore_label), draw)[0])
            if cut.shape != cuts[0].shape:
                raise DataError(
                    f"{self.where}: {name} has (channels, height, width) {cut.shape}, the first "
                    f"of the batch {cuts[0].shape}; give crop_size, or batch_size: 1"
                )
        return _Batch(
            stack(cuts, places),
            device.staged(torch.tensor(places)),
            stack(labels, places),
            device.staged(torch.tensor(sizes, dtype=torch.float32)[:, None, None]),
        )

    def _padded(self, planes: np.ndarray, value: Any) -> np.ndarray:
        """Planes (C, H, W) at least as large as the crop, `value` at right and bottom."""
        crop, (channels, height, width) = self.transformer.crop, planes.shape
        if not crop or (height >= crop[0] and width >= crop[1]):
            return planes
        made = np.empty((channels, max(height, crop[0]), max(width, crop[1])), planes.dtype)
        made[:] = value
        made[:, :height, :width] = planes
        return made

    def finish(self, batch: _Batch) -> list[Tensor]:
        """The tops on the net's device."""
        labels, sizes = (device.upload(part) for part in (batch.labels, batch.sizes))
        crop = self.transformer.crop
        if crop:
            sizes = torch.minimum(sizes, sizes.new_tensor(crop))
        data = self.transformer.finish(batch.pixels, batch.places)
        dtype = device.master_dtype()
        return [data, device.layout(labels.to(dtype)), sizes.to(dtype)]
