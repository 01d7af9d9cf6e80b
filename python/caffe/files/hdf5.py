"""Weights and solver states in HDF5, laid out as Caffe does it.

.caffemodel.h5   /data/LAYER/0, 1, ... and, on request, /diff/LAYER/0, 1, ...
.solverstate.h5  /iter, /learned_net, /current_step and /history/0, 1, ...
"""

import io
import math
import os
import zlib

import h5py
import numpy as np

from caffe_plain.hdf5 import check_self_contained

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Weights hardly compress; a file that claims to grow many times larger does not hold weights.
_MOST_BYTES_PER_BYTE = 16
_MOST_BLOBS = 1000  # of one layer
_DEFLATE = h5py.h5z.FILTER_DEFLATE
_FILTERS = {_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


# ---- writing ---------------------------------------------------------------------------------


def image(fill, *what):
    """The bytes of an HDF5 file that `fill(file, *what)` fills.

    It is made in memory, because HDF5 does not handle a full disk gracefully.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file, *what)
    return buffer.getbuffer()


def fill_weights(file, layers):
    """Write [(layer name, [(data, diff or None), ...]), ...]."""
    has_diff = any(diff is not None for _, blobs in layers for _, diff in blobs)
    for name, blobs in layers:
        _fill_arrays(file.require_group(f"data/{name}"), [data for data, _ in blobs])
        if has_diff:
            diffs = [np.zeros_like(data) if diff is None else diff for data, diff in blobs]
            _fill_arrays(file.require_group(f"diff/{name}"), diffs)


def fill_state(file, iteration, learned_net, current_step, history):
    """Write the fields of a SolverState."""
    file.create_dataset("iter", data=np.array([iteration], np.int32))
    _fill_text(file, "learned_net", learned_net)
    file.create_dataset("current_step", data=np.array([current_step], np.int32))
    _fill_arrays(file.create_group("history"), history)


def _fill_arrays(group, arrays):
    for index, array in enumerate(arrays):
        group.create_dataset(str(index), data=np.asarray(array, np.float32))


def _fill_text(file, name, text):
    """Write text as H5LTmake_dataset_string does: Caffe reads it up to its NUL."""
    data = text.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    place = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, place)
    dataset.write(place, place, np.array(data, f"S{len(data)}"), kind)


# ---- reading ---------------------------------------------------------------------------------


def read_weights(file, size_bytes, want_diff=False):
    """[(layer name, [array, ...]), ...] in a file of that size.

    An array is None if the layer shares it with the layer that saved it. With `want_diff`, each is
    a pair (array, diff or None).
    """
    check_self_contained(file)
    layers = _datasets_by_group(file["data"])
    diffs = _datasets_by_group(file["diff"]) if want_diff and "diff" in file else {}
    _check_size([*layers.values(), *diffs.values()], size_bytes)
    return [
        (name, _blobs(datasets, diffs.get(name, {}), want_diff))
        for name, datasets in layers.items()
    ]


def read_state(file, size_bytes):
    """(iter, learned_net, current_step, history) of a solver state."""
    check_self_contained(file)
    history = _datasets_by_group(file["history"]).get("", {})
    _check_size([history], size_bytes)
    arrays = _blobs(history, {}, False)
    if any(array is None for array in arrays):
        raise ValueError(f"history has {len(history)} of {len(arrays)} blobs")
    return _number(file["iter"]), _text(file), _number(file["current_step"]), arrays


def _datasets_by_group(group):
    """{group name: {index: dataset}} of every group below that is not just part of a path."""
    found, paths = {"": {}}, {""}

    def visit(name, item):
        above, _, last = name.rpartition("/")
        if isinstance(item, h5py.Group):
            found[name] = {}
            paths.add(above)
        elif last.isdecimal() and int(last) < _MOST_BLOBS:
            found[above][int(last)] = item
        else:
            raise ValueError(f"dataset {item.name}: blobs are called 0, 1, 2, ...")

    group.visititems(visit)
    return {name: items for name, items in found.items() if items or name not in paths}


def _check_size(groups, size_bytes):
    """Refuse what would need much more memory than the file, before reading any of it."""
    values, needed_bytes = 0, 0
    for dataset in (dataset for group in groups for dataset in group.values()):
        if dataset.dtype.kind not in "fiu" or dataset.shape is None:
            raise ValueError(f"dataset {dataset.name}: {dataset.dtype}, expected numbers")
        count = max(dataset.size, math.prod(dataset.chunks or (0,)))
        values += count
        needed_bytes += count * (dataset.dtype.itemsize + 4)  # as stored, and as float32
        if needed_bytes > size_bytes * _MOST_BYTES_PER_BYTE:
            raise ValueError(f"{values:,} values in {size_bytes:,} bytes")
        if dataset.chunks:
            _check_chunks(dataset, size_bytes)


def _check_chunks(dataset, size_bytes):
    """Refuse chunks that HDF5 would inflate beyond their size."""
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if not _FILTERS.issuperset(filters) or filters.count(_DEFLATE) > 1:
        raise ValueError(
            f"dataset {dataset.name}: stored with HDF5's filters {filters}, of which "
            f"only {sorted(_FILTERS)} are read, each once; h5repack -f NONE undoes "
            "them"
        )
    if _DEFLATE not in filters:
        return
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    skipped = 1 << filters.index(_DEFLATE)  # in a chunk's own mask: it is not compressed
    for index in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(index)
        if chunk.size > size_bytes:
            raise ValueError(f"dataset {dataset.name}: a chunk of {chunk.size:,} bytes")
        if not chunk.filter_mask & skipped:
            _check_inflated(dataset, chunk.chunk_offset, chunk_bytes + 4)  # with a checksum


def _check_inflated(dataset, offset, most_bytes):
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(dataset.id.read_direct_chunk(offset)[1], most_bytes)
        if inflater.decompress(inflater.unconsumed_tail, 1):
            raise ValueError(
                f"dataset {dataset.name}: a chunk inflates to more than the "
                f"{most_bytes:,} bytes that it has"
            )
    except zlib.error as error:
        raise ValueError(f"dataset {dataset.name}: {error}") from None


def _blobs(datasets, diffs, want_diff):
    arrays = []
    for index in range(max(datasets, default=-1) + 1):
        data = _read(datasets.get(index))
        arrays.append((data, _read(diffs.get(index))) if want_diff else data)
    return arrays


def _read(dataset):
    return None if dataset is None else np.asarray(dataset[()], np.float32)


def _number(dataset):
    if dataset.size != 1:
        raise ValueError(f"dataset {dataset.name}: {dataset.size} values, expected 1")
    return int(np.asarray(dataset[()]).reshape(()))


def _text(file):
    if "learned_net" not in file:
        return ""
    text = file["learned_net"][()]
    if not isinstance(text, bytes):
        raise ValueError(f"dataset /learned_net: {type(text).__name__}, expected text")
    return os.fsdecode(text)
