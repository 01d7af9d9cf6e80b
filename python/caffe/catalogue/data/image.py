"""ImageData: batches from a list of image files."""

import os
from functools import partial

import cv2
import numpy as np

from caffe_plain import images
from caffe_plain.class_names import without_mark
from caffe_plain.errors import DataError

from ...layer import register
from .prefetch import PrefetchedSource
from .records import RecordReader
from .transform import DataTransformer


def read_lines(layer, path):
    """The lines of the text file `path` that are not blank, with their numbers from 1.

    A name keeps the blanks before it; bytes that are not UTF-8 become what open() takes for them.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(
            f"layer {layer.name!r} ({layer.type}): source {path}: {error.strerror}; "
            f"the current folder is {os.getcwd()}"
        ) from error
    lines = [
        (number, os.fsdecode(line.rstrip()))
        for number, line in enumerate(without_mark(data, path).split(b"\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise DataError(f"layer {layer.name!r} ({layer.type}): source {path} is empty")
    return lines


def read_image(where, path, color):
    """The image at `path`, upright: (H, W, 3) in BGR order, or (H, W) in gray."""
    try:
        return images.load(path, color)
    except DataError as error:
        raise DataError(f"{where}: image {error}; correct the list or root_folder") from error


@register
class ImageData(PrefetchedSource):
    """The images of a list, resized to new_height x new_width if these are given.

    tops: data (batch_size, C, H, W), BGR or with is_color: false gray, and labels (batch_size,)
    if there is a second one. Each line of `source` is a path (appended to root_folder) and an
    integer label; with `shuffle` their order is drawn again for each epoch. Options:
    image_data_param and transform_param (see DataTransformer). Caffe's ImageDataLayer.
    """

    top_count = (1, 2)
    param_name = "image_data_param"

    def setup(self, *shapes):
        options = self.options
        if not options.source:
            raise self.error("source, the list of images and labels, must be given")
        if bool(options.new_height) != bool(options.new_width):
            raise self.error(
                "give both new_height and new_width, or neither; found "
                f"{options.new_height} and {options.new_width}"
            )
        self.reader = ImageReader(self)
        if options.rand_skip:
            self.position = int(np.random.default_rng(self.seed).integers(options.rand_skip))

    def names(self, position):
        """What the records of the batch at `position` are called."""
        return self.reader.names(position)


class ImageReader(RecordReader):
    """Reads the images of a list; `_parse` splits a line, `_read` makes pixels and label of it."""

    cure = "correct the list or the images"

    def __init__(self, layer, transformer=None):
        super().__init__(layer, layer.options.batch_size, transformer or DataTransformer(layer))
        self.options = layer.options
        self.lines = [
            self._parse(number, line) for number, line in read_lines(layer, layer.options.source)
        ]

    def _parse(self, number, line):
        path, _, label = line.rpartition(" ")
        try:
            return path, int(label)
        except ValueError:
            raise DataError(
                f"{self.where}: {self.options.source}, line {number}: expected a path "
                f"and an integer label; found {line!r}"
            ) from None

    def __len__(self):
        return len(self.lines)

    def entries(self, start, step):
        epoch, index = divmod(start, len(self.lines))
        while True:
            order = self._order(epoch)
            while index < len(order):
                path, label = self.lines[order[index]]
                path = self.options.root_folder + path
                yield f"image {path}", partial(self._read, path, label)
                index += step
            epoch, index = epoch + index // len(order), index % len(order)

    def _order(self, epoch):
        if not self.options.shuffle:
            return range(len(self.lines))
        return np.random.default_rng([*self.seed, 1, epoch]).permutation(len(self.lines))

    def _read(self, path, label):
        options = self.options
        image = read_image(self.where, path, options.is_color)
        if options.new_height:
            image = self._resized(image, path)
        image = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
        return image, label

    def _resized(self, image, path):
        size = (self.options.new_width, self.options.new_height)
        try:
            return cv2.resize(image, size)
        except cv2.error as error:
            raise DataError(
                f"{self.where}: image {path} cannot be resized to new_width and "
                f"new_height {size}: {error}"
            ) from error
