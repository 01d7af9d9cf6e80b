"""HDF5Data and HDF5Output: named arrays in HDF5 files."""

import os
from itertools import count, islice

import h5py
import numpy as np
import torch

from caffe_plain.errors import DataError
from caffe_plain.hdf5 import check_self_contained
from caffe_plain.memory import amount, limit_bytes

from ... import device
from ...layer import TensorLayer, register
from .image import read_lines
from .prefetch import PrefetchedSource
from .source import precision_of

_BROKEN = (OSError, RuntimeError, ValueError, KeyError, MemoryError)  # what h5py raises on damage


@register
class HDF5Data(PrefetchedSource):
    """The rows of HDF5 files, one dataset for each top, named as the top is.

    tops: (batch_size, ...) with the sizes of the dataset's rows. `source` lists the files,
    separated by white space; with `shuffle` the order of the files and of the rows in each is drawn
    again for each epoch. Options: hdf5_data_param. Caffe's HDF5DataLayer.
    """

    param_name = "hdf5_data_param"

    def setup(self, *shapes):
        options = self.options
        if not options.source or options.batch_size < 1:
            raise self.error("source (the list of HDF5 files) and batch_size must be given")
        if self.layer_param.HasField("transform_param"):
            raise self.error(
                "does not transform; delete transform_param and transform the data "
                "before writing it"
            )
        lines = read_lines(self, options.source)
        self.reader = _RowReader(self, [path for _, line in lines for path in line.split()])


class _RowReader:
    """Reads one file after another into memory and picks its rows."""

    def __init__(self, layer, files):
        self.where = f"layer {layer.name!r} (HDF5Data)"
        self.files, self.names = files, list(layer.layer_param.top)
        self.batch_size, self.shuffle = layer.options.batch_size, layer.options.shuffle
        self.seed, (self.rank, self.step) = layer.seed, layer.share
        self.loaded, self.row_counts = (None, None), {}

    @property
    def shapes(self):
        return [(self.batch_size, *array.shape[1:]) for array in self._load(self.files[0])]

    def batches(self, position):
        rows = islice(self._rows(position + self.rank), None, None, self.step)
        while True:
            picked = list(islice(rows, self.batch_size))
            position += self.batch_size * self.step
            stacked = [
                np.stack([arrays[top][row] for arrays, row in picked])
                for top in range(len(self.names))
            ]
            yield [device.staged(torch.from_numpy(rows)) for rows in stacked], position

    def _rows(self, start):
        """(arrays of a file, row) from row number `start` on, over the epochs."""
        for epoch in count():
            for file in self._order(len(self.files), epoch):
                path = self.files[file]
                if path not in self.row_counts:
                    self._load(path)
                if start < self.row_counts[path]:
                    arrays = self._load(path)
                    for row in self._order(len(arrays[0]), epoch, file)[start:]:
                        yield arrays, row
                start = max(start - self.row_counts[path], 0)

    def _order(self, size, *which):
        if not self.shuffle:
            return range(size)
        return np.random.default_rng([*self.seed, len(which), *which]).permutation(size)

    def _load(self, path):
        """The datasets of a file, one for each top."""
        if self.loaded[0] != path:
            try:
                with h5py.File(path, "r") as file:
                    check_self_contained(file)
                    arrays = [self._dataset(file, path, name) for name in self.names]
            except DataError as error:
                raise DataError(f"{self.where}: {error}") from error
            except _BROKEN as error:
                raise DataError(f"{self.where}: cannot read HDF5 file {path}: {error}") from error
            sizes = {name: len(array) for name, array in zip(self.names, arrays, strict=True)}
            if len(set(sizes.values())) > 1 or not min(sizes.values()):
                raise DataError(
                    f"{self.where}: {path}: the datasets must have equally many rows, "
                    f"at least one; found {sizes}"
                )
            self.loaded, self.row_counts[path] = (path, arrays), len(arrays[0])
        return self.loaded[1]

    def _dataset(self, file, path, name):
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise DataError(
                f"{path} has no dataset {name!r}, as a top is named; it has {sorted(file)}"
            )
        if dataset.dtype.kind not in "fiu":
            raise DataError(f"{path}: dataset {name!r} must hold numbers; found {dataset.dtype}")
        if dataset.nbytes > limit_bytes():  # a file of a few bytes can claim to hold any number
            raise DataError(
                f"{path}: dataset {name!r} of {amount(dataset.nbytes)} is read whole, and this "
                f"process may have {amount(limit_bytes())}; split the file"
            )
        double = device.master_dtype() == torch.float64
        return dataset[...].astype(np.float64 if double else np.float32)

    def finish(self, batch):
        return [device.layout(device.upload(rows).to(precision_of(rows.shape))) for rows in batch]


@register
class HDF5Output(TensorLayer):
    """Writes its bottoms to the datasets "data" and "label" of an HDF5 file.

    bottoms: data (N, ...) and labels (N, ...), written as (N, C, H, W); every forward appends.
    The file is created with the net; one that is there is overwritten only if it is HDF5, which
    Caffe does not ask. Options: hdf5_output_param. Caffe's HDF5OutputLayer.
    """

    bottom_count = (2, 2)
    top_count = (0, 0)
    param_name = "hdf5_output_param"
    differentiable = False
    replays = False
    names = ("data", "label")

    def setup(self, *shapes):
        path = self.options.file_name
        if os.path.exists(path) and not h5py.is_hdf5(path) and os.path.getsize(path):
            raise DataError(
                f"layer {self.name!r} (HDF5Output): file_name {path!r} is there and is no HDF5 "
                "file, so it is not overwritten; give another name, or delete it"
            )
        self._open("w").close()

    def reshape(self, *shapes):
        if shapes[0][0] != shapes[1][0]:
            raise self.shape_error(
                f"data and labels must be equally many; found {shapes[0][0]} and {shapes[1][0]}"
            )
        return []

    def forward(self, *bottoms):
        with self._open("a") as file:
            for name, x in zip(self.names, bottoms, strict=True):
                rows = x.reshape(x.shape + (1,) * (4 - x.dim()))
                rows = rows.to(torch.promote_types(rows.dtype, torch.float32)).cpu().numpy()
                if name not in file:
                    file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
                else:
                    file[name].resize(len(file[name]) + len(rows), 0)
                    file[name][-len(rows) :] = rows
        return ()

    def _open(self, mode):
        path = self.options.file_name
        try:
            return h5py.File(path, mode)
        except OSError as error:
            raise DataError(
                f"layer {self.name!r} (HDF5Output): cannot write file_name {path!r}: {error}"
            ) from error
