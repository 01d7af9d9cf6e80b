"""Weights, solver states and mean images: read and written as Caffe does, binary and HDF5.

Reading takes about the time and memory of the file itself, has no 2 GiB limit, and trusts
nothing in the file. Writing leaves either the whole file or what was there before.
"""

import mmap
import os
from contextlib import contextmanager
from typing import NamedTuple

import h5py
import numpy as np

from caffe_plain.errors import CaffeError, DataError, ParseError, WeightsError, nearest
from caffe_plain.files import write_atomically, write_pieces

from ..proto import caffe_pb2
from . import hdf5, wire

_MOST_ITEMS = 1 << 15  # layers and blobs in one file; even an empty one takes memory


class State(NamedTuple):
    """What a solver needs to continue, besides the weights in the file `learned_net`."""

    iter: int
    learned_net: str
    current_step: int
    history: list


class _Layer(NamedTuple):
    """Where a layer message has its name and blobs; `old` is its V0 layer, in field 1."""

    name: int
    blobs: int
    old: "_Layer" = None


# The fields of NetParameter that hold layers.
_LAYERS = {100: _Layer(name=1, blobs=7), 2: _Layer(name=4, blobs=6, old=_Layer(1, 50))}


# ---- weights ---------------------------------------------------------------------------------


def read_weights(path, want_diff=False):
    """[(layer name, [float32 array, ...]), ...] of a .caffemodel, binary or HDF5, old or new.

    A blob in the old four-axis form keeps its four axes. In HDF5, a blob is None if the layer
    shares it with the one that saved it. With `want_diff`, each is a pair (data, diff or None).
    Arrays may be views of the file, which is mapped: copy what is kept, in case the file is cut off
    later, and what must be aligned.
    """
    with _opened(path, WeightsError, "weights (.caffemodel)") as (buffer, is_hdf5):
        if is_hdf5:
            with h5py.File(path, "r", locking=False) as file:
                return hdf5.read_weights(file, len(buffer), want_diff)
        layers = list(_layers(buffer, want_diff))
        if not layers:
            raise wire.WireError("no layer in it", 0)
        return layers


def _layers(buffer, want_diff):
    budget = iter(range(_MOST_ITEMS))
    for number, kind, begin, stop in wire.fields(buffer, 0, len(buffer)):
        if number in _LAYERS:
            _spend(budget, kind, begin)
            name, spans = _name_and_blobs(buffer, begin, stop, _LAYERS[number], budget)
            yield (
                name,
                [
                    _blob(buffer, span, f"layer {name!r}, blob {index}", want_diff)
                    for index, span in enumerate(spans)
                ],
            )


def _name_and_blobs(buffer, start, end, layer, budget):
    """A layer's name and the (start, end) of each of its blobs."""
    name, spans, old = "", [], None
    try:
        for number, kind, begin, stop in wire.fields(buffer, start, end):
            if number == layer.name and kind == wire.DELIMITED:
                name = bytes(buffer[begin:stop]).decode(errors="replace")
            elif number == layer.blobs:
                _spend(budget, kind, begin)
                spans.append((begin, stop))
            elif number == 1 and layer.old:
                _spend(budget, kind, begin)
                old = _name_and_blobs(buffer, begin, stop, layer.old, budget)
    except wire.WireError as error:
        raise error.inside(f"layer {name!r}") from None
    return old or (name, spans)


def _spend(budget, kind, offset):
    """Count a layer or blob, which must be a message."""
    if kind != wire.DELIMITED:
        raise wire.WireError(f"wire type {kind} where a message should stand", offset)
    if next(budget, None) is None:
        raise wire.WireError(f"more than {_MOST_ITEMS:,} layers and blobs", offset)


def _blob(buffer, span, where, want_diff=False):
    try:
        return wire.read_blob(buffer, *span, want_diff)
    except wire.WireError as error:
        raise error.inside(where) from None


def write_weights(path, net, blobs):
    """Write the layers of the NetParameter `net` with {layer name: [(data, diff or None), ...]}.

    A path in .h5 gets Caffe's HDF5 layout, any other a binary NetParameter.
    """
    names = [layer.name for layer in net.layer]
    for name in blobs:
        if name not in names:
            raise WeightsError(
                f"{path}: weights for layer {name!r}, which the net lacks; {nearest(name, names)}"
            )
    if _is_hdf5_name(path):
        _write_hdf5(path, hdf5.fill_weights, [(name, blobs.get(name, [])) for name in names])
    else:
        _write_pieces(path, _net_pieces(net, blobs))


def _net_pieces(net, blobs):
    head = caffe_pb2.NetParameter()
    head.CopyFrom(net)
    head.ClearField("layer")
    pieces = [head.SerializeToString()]
    for layer in net.layer:
        bare = caffe_pb2.LayerParameter()
        bare.CopyFrom(layer)
        bare.ClearField("blobs")
        fields = []
        for data, diff in blobs.get(layer.name, []):
            fields += wire.delimited(7, wire.blob_pieces(data, diff))
        pieces += wire.delimited(100, wire.insert_field(bare, 7, fields))
    return pieces


# ---- solver states ---------------------------------------------------------------------------


def read_state(path):
    """The State in a .solverstate, binary or HDF5."""
    with _opened(path, WeightsError, "a solver state (.solverstate)") as (buffer, is_hdf5):
        if is_hdf5:
            with h5py.File(path, "r", locking=False) as file:
                return State(*hdf5.read_state(file, len(buffer)))
        return _binary_state(buffer)


def _binary_state(buffer):
    budget, spans, rest = iter(range(_MOST_ITEMS)), [], bytearray()
    position = 0
    for number, kind, begin, stop in wire.fields(buffer, 0, len(buffer)):
        if number == 3:
            _spend(budget, kind, begin)
            spans.append((begin, stop))
        else:
            rest += buffer[position:stop]
        position = stop
    state = wire.parse(caffe_pb2.SolverState, rest, 0)
    if not state.HasField("iter"):
        raise wire.WireError("no iteration in it", 0)
    history = [
        np.array(_blob(buffer, span, f"history {index}")) for index, span in enumerate(spans)
    ]
    return State(state.iter, os.fsdecode(state.learned_net), state.current_step, history)


def write_state(path, iteration, learned_net, current_step, history):
    """Write a solver state: HDF5 where the path ends in .h5, else binary."""
    if _is_hdf5_name(path):
        _write_hdf5(path, hdf5.fill_state, iteration, learned_net, current_step, history)
        return
    state = caffe_pb2.SolverState(
        iter=iteration, learned_net=learned_net, current_step=current_step
    )
    blobs = [piece for array in history for piece in wire.delimited(3, wire.blob_pieces(array))]
    _write_pieces(path, wire.insert_field(state, 3, blobs))


# ---- mean images -----------------------------------------------------------------------------


def read_blob(path):
    """The array in a file of one binary BlobProto, such as mean.binaryproto."""
    with _opened(path, ParseError, "a blob (.binaryproto)") as (buffer, _):
        array = wire.read_blob(buffer, 0, len(buffer))
        if not array.size:
            raise wire.WireError(f"shape {array.shape}, which has no values", 0)
        return np.array(array)


def write_blob(path, array):
    """Write a binary BlobProto; four axes in the form of Caffe's compute_image_mean."""
    make = wire.legacy_blob_pieces if array.ndim == 4 else wire.blob_pieces
    _write_pieces(path, make(array))


# ---- files -----------------------------------------------------------------------------------


@contextmanager
def _opened(path, error_type, expected):
    """The file's bytes, mapped, and whether they are HDF5; errors name the file."""
    try:
        buffer = _mapped(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read: {reason}; the current folder is {os.getcwd()}"
        ) from error
    try:
        yield buffer, buffer[: len(hdf5.SIGNATURE)] == hdf5.SIGNATURE
    except wire.WireError as error:
        raise error_type(
            f"{path}: {error}, at byte {error.offset:,} of {len(buffer):,}; expected "
            f"{expected}; {_guess(buffer)}"
        ) from None
    except CaffeError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        what = error.args[0] if error.args else error  # a KeyError would show quotes
        raise error_type(f"{path}: {what}; expected {expected}; {_guess(buffer)}") from error


def _mapped(path):
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("the file is empty, or not a regular file")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # what is written stays here


def _guess(buffer):
    """A guess at what the user gave instead."""
    start = bytes(buffer[:200])
    if start.isascii() and b"\0" not in start:
        return "this is a text file"
    return "the file is damaged, cut short, or of another kind"


def _is_hdf5_name(path):
    return os.fspath(path).endswith(".h5")


def _write_pieces(path, pieces):
    write_pieces(path, wire.buffers(pieces), wire.size_bytes(pieces))


def _write_hdf5(path, fill, *what):
    image = hdf5.image(fill, *what)
    write_atomically(path, image)
