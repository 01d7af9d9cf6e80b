"""AnnotatedData: batches of images with objects, from a database of AnnotatedDatums (SSD)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from caffe_plain.errors import DataError
from caffe_plain.geometry import check_positive

from ... import device
from ...files.datum import decode_datum
from ...layer import Shape, register
from ...proto import caffe_pb2
from ..data.datums import DatumReader
from ..data.prefetch import PrefetchedSource
from ..data.records import Batch, stack
from . import objects, pictures, sampling
from .truths import COLUMNS


@register
class AnnotatedData(PrefetchedSource):
    """The records of an LMDB or LevelDB of AnnotatedDatums: images and the objects in them.

    tops: data (batch_size, C, H, W), and if there is a second one the objects (1, 1, G, 8) of all
    images, rows (image, label, instance, xmin, ymin, xmax, ymax, difficult) with coordinates in
    parts of the image; one row of -1 without objects. For records without a type: labels
    (batch_size,). Of transform_param first distort_param and expand_param, then a window that
    annotated_data_param's batch_sampler draw, then resize_param and what DataTransformer does;
    emit_constraint says which objects a window keeps. Options: data_param, annotated_data_param,
    transform_param. `data_prep/convert_annoset.py` makes such databases. Liu et al., 2016.
    """

    top_count = (1, 2)
    param_name = "data_param"
    fork_fields = (
        "crop_h",
        "crop_w",
        "resize_param",
        "distort_param",
        "expand_param",
        "emit_constraint",
    )

    def setup(self, *shapes: Shape) -> None:
        options, transform = self.options, self.layer_param.transform_param
        if not options.source or options.batch_size < 1:
            raise self.error("source (the database's folder) and batch_size must be given")
        sampling.check(self, self.layer_param.annotated_data_param.batch_sampler)
        if transform.HasField("resize_param"):
            resize = transform.resize_param
            check_positive(self.error, resize_param=(resize.height, resize.width))
            if resize.prob != 1 or resize.height_scale or resize.width_scale:
                raise self.error(
                    "resize_param: prob below 1, height_scale and width_scale are not supported"
                )
        if transform.expand_param.max_expand_ratio < 1:
            raise self.error(
                f"max_expand_ratio must be at least 1; found "
                f"{transform.expand_param.max_expand_ratio}"
            )
        self.ahead = options.prefetch
        self.reader = _AnnotatedReader(self)
        if options.rand_skip:
            self.position = int(np.random.default_rng(self.seed).integers(options.rand_skip))

    def names(self, position: int) -> list[str]:
        """What the records of the batch at `position` are called."""
        return self.reader.names(position)


class _AnnotatedReader(DatumReader):
    """A record's label is its objects (G, 7), or a number where it has no type."""

    def __init__(self, layer: AnnotatedData) -> None:
        super().__init__(layer)
        self.options = layer.layer_param.transform_param
        annotated = layer.layer_param.annotated_data_param
        self.samplers = list(annotated.batch_sampler)
        self.has_type = annotated.HasField("anno_type")

    def _read(self, key: bytes, record: bytes) -> tuple[np.ndarray, Any]:
        try:
            datum = caffe_pb2.AnnotatedDatum.FromString(bytes(record))
            pixels = decode_datum(datum.datum, key, self.transformer.color)
        except (DecodeError, DataError) as error:
            raise DataError(
                f"{self.where}: {self.database.path}: record {key.decode('utf-8', 'replace')!r}: "
                f"not an AnnotatedDatum ({error}); make the database with convert_annoset"
            ) from error
        is_typed = self.has_type or datum.HasField("type")
        return pixels, objects.read(datum) if is_typed else datum.datum.label

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the tops, by the first record."""
        with closing(self.records(0, 1)) as records:
            pixels, label, name = next(records)
        image = self._resized(_interleaved(pixels), np.random.default_rng(0))
        shape = self.transformer.shape(image.transpose(2, 0, 1).shape, name)
        is_typed = isinstance(label, np.ndarray)
        labels = (1, 1, max(len(label), 1), COLUMNS) if is_typed else (self.batch_size,)
        return [(self.batch_size, *shape), labels]

    def _batch(self, records: Sequence[tuple], draws: np.random.Generator) -> Batch:
        cuts, places, labels, first = [], [], [], None
        for index, (pixels, label, name) in enumerate(records):
            pixels, label, place = self._drawn(pixels, label, name, draws)
            first = first or (pixels.shape, name)
            if pixels.shape != first[0]:
                raise DataError(
                    f"{self.where}: {name} becomes (channels, height, width) {pixels.shape}, but "
                    f"{first[1]} in the same batch {first[0]}; give resize_param, or batch_size: 1"
                )
            cuts.append(pixels)
            places.append(place)
            labels.append(_rows(index, label) if isinstance(label, np.ndarray) else label)
        return Batch(
            stack(cuts, places), device.staged(torch.tensor(places)), device.staged(_joined(labels))
        )

    def _drawn(self, pixels, label, name, draws) -> tuple[np.ndarray, Any, tuple]:
        """The pixels (C, H, W) of what is drawn of a record, its objects, and their place."""
        image, there = _interleaved(pixels), label
        if not isinstance(label, np.ndarray):
            there = np.empty((0, 7))
        image, there = self._changed(image, there, name, draws)
        if self.samplers:
            window = sampling.draw_window(self.samplers, there[:, objects.BOX], draws)
            if window is not None:
                image, there = pictures.cut(image, window), self._seen(there, window)
        if self.options.HasField("resize_param"):
            there = objects.resized(there, image.shape[:2], self.options.resize_param)
            image = self._resized(image, draws)
        planes = image.transpose(2, 0, 1)
        self.transformer.shape(planes.shape, name)  # which checks it
        planes_cut, place = self.transformer.cut(planes, draws.random(3))
        there = self._seen(there, self._window(planes, planes_cut, place))
        there = objects.mirrored(there) if place[0] else there
        return planes_cut, there if isinstance(label, np.ndarray) else label, place

    def _changed(self, image, there, name, draws):
        """Distorted and expanded, if that is asked for and drawn."""
        options = self.options
        distorts = bool(options.distort_param.ListFields())
        if image.dtype != np.uint8 and (distorts or self._expands):
            field = "distort_param" if distorts else "expand_param"
            raise DataError(f"{self.where}: {name} holds no bytes; {field} needs bytes")
        if options.HasField("distort_param") and image.shape[2] == 3:
            image = pictures.distort(image, options.distort_param, draws)
        if self._expands and draws.random() <= options.expand_param.prob:
            mean = self.transformer.mean
            fill = np.zeros(1) if mean is None else mean.mean((1, 2))
            largest = options.expand_param.max_expand_ratio
            image, window = pictures.expand(image, largest, fill, draws)
            there = self._seen(there, window)
        return image, there

    @property
    def _expands(self) -> bool:
        options = self.options
        return options.HasField("expand_param") and options.expand_param.max_expand_ratio > 1.01

    def _seen(self, there: np.ndarray, window: np.ndarray) -> np.ndarray:
        has_emit = self.options.HasField("emit_constraint")
        return objects.seen(there, window, self.options.emit_constraint if has_emit else None)

    def _resized(self, image: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        if not self.options.HasField("resize_param"):
            return image
        image = pictures.resize(image, self.options.resize_param, draws)
        return image if image.ndim == 3 else image[..., np.newaxis]  # OpenCV drops one channel

    @staticmethod
    def _window(planes: np.ndarray, cut: np.ndarray, place: tuple) -> np.ndarray:
        """What `cut` shows of `planes`, in parts of it."""
        (height, width), (high, wide) = planes.shape[1:], cut.shape[1:]
        mirrored, top, left = place
        left = width - wide - left if mirrored else left
        return np.array([left / width, top / height, (left + wide) / width, (top + high) / height])

    def finish(self, batch: Batch) -> list[Tensor]:
        """The tops on the net's device."""
        data = self.transformer.finish(batch.pixels, batch.places)
        return [data, device.upload(batch.labels).to(device.master_dtype())]


def _interleaved(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W, C)."""
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _rows(index: int, there: np.ndarray) -> np.ndarray:
    """The objects of image `index` as rows of the top."""
    return np.hstack([np.full((len(there), 1), index), there])


def _joined(labels: list) -> Tensor:
    """The second top: labels (N,), or the rows of all images (1, 1, G, 8)."""
    if not isinstance(labels[0], np.ndarray):
        return torch.tensor(labels, dtype=torch.float32)
    rows = np.concatenate(labels).astype(np.float32)
    if not len(rows):
        rows = np.full((1, COLUMNS), -1, np.float32)
    return torch.from_numpy(rows[None, None])
