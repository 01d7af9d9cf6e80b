"""Weights into and out of a net: copy by layer name, save as .caffemodel or HDF5."""

import numpy as np
import torch

from caffe_plain.errors import CaffeError, WeightsError
from caffe_plain.files import write_atomically
from caffe_plain.glog import say

from .. import device
from ..files import hdf5, weights
from ..proto import caffe_pb2
from .build import AUTOMATIC

_PART_BYTES = 4 << 20  # of an array, copied at once


def copy_weights(nodes, learnable, path):
    """Set the parameters of every layer that `path` also holds; others stay as they are.

    All shapes are checked before anything is written. In HDF5 a layer may lack the parameters
    that it shares with another layer.
    """
    owned = {id(param.blob) for param in learnable}
    blobs = {node.name: node.layer.blobs for node in nodes}
    found = []
    for name, arrays in weights.read_weights(path):
        if name not in blobs:
            say("net", f"Ignoring source layer {name}")
        else:
            arrays = arrays + [None] * (len(blobs[name]) - len(arrays))
            _check(path, name, blobs[name], arrays, owned)
            found += [
                (blob, array)
                for blob, array in zip(blobs[name], arrays, strict=True)
                if array is not None
            ]
    for blob, array in found:
        _fill(torch.atleast_1d(blob.tensor), np.atleast_1d(array.reshape(blob.shape)))
        blob.show("data")


def _fill(tensor, array):
    """Copy in parts: PyTorch wants aligned memory, which arrays in a file are not."""
    rows = max(1, _PART_BYTES * len(array) // max(1, array.nbytes))
    for begin in range(0, len(array), rows):
        part = torch.from_numpy(np.array(array[begin : begin + rows], np.float32))
        tensor[begin : begin + rows].copy_(part.to(device.current()))


def _check(path, name, blobs, arrays, owned):
    missing = [blob for blob, array in zip(blobs, arrays, strict=False) if array is None]
    if len(blobs) != len(arrays) or any(id(blob) in owned for blob in missing):
        raise WeightsError(
            f"{path}: layer {name!r} has {len(arrays) - len(missing)} blobs there and "
            f"{len(blobs)} in this net; rename the layer to learn it from scratch"
        )
    for index, (blob, array) in enumerate(zip(blobs, arrays, strict=True)):
        if array is not None and not _fits(blob.shape, array.shape):
            raise WeightsError(
                f"{path}: layer {name!r}, param {index} has shape {array.shape} there and "
                f"{blob.shape} in this net; rename the layer to learn it from scratch"
            )


def _fits(shape, found):
    """Equal, or equal except for the leading 1s of the old four-axis shapes."""
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    return tuple(shape) == tuple(found) or (len(found) == 4 and padded == tuple(found))


def save_weights(name, nodes, path, write_diff=False):
    """Write the layers, as set up, and their parameters; HDF5 where `path` ends in .h5."""
    weights.write_weights(str(path), _definition(name, nodes), _values(nodes, write_diff))


def _definition(name, nodes):
    """The NetParameter that Caffe saves: its layers say what they were set up with."""
    net = caffe_pb2.NetParameter(name=name)
    for node in nodes:
        layer = net.layer.add()
        layer.CopyFrom(node.param)
        layer.top[:] = [top for top in node.top_names if top != AUTOMATIC]
        del layer.param[:]
        layer.param.extend(node.layer.param_specs())
        if node.layer.is_loss:
            layer.loss_weight[:] = node.loss_weights
    return net


def save_hdf5(nodes, path, write_diff=False):
    """Write the parameters as HDF5, whatever the path ends in."""
    values = _values(nodes, write_diff)
    image = hdf5.image(
        hdf5.fill_weights, [(node.name, values.get(node.name, [])) for node in nodes]
    )
    write_atomically(path, image)


def _values(nodes, write_diff):
    """{layer name: [(data, diff or None), ...]} of the layers with parameters."""
    return {
        node.name: [
            (
                blob.tensor.float().cpu().numpy(),
                blob.diff_tensor.float().cpu().numpy() if write_diff else None,
            )
            for blob in node.layer.blobs
        ]
        for node in nodes
        if node.layer.blobs
    }


def share_weights(nodes, others):
    """Let `nodes` use the parameter memory of equally named nodes of another net."""
    theirs = {node.name: node.layer.blobs for node in others}
    for node in nodes:
        for mine, shared in zip(node.layer.blobs, theirs.get(node.name, ()), strict=False):
            if mine.shape != shared.shape:
                raise CaffeError(
                    f"share_with: layer {node.name!r} has a parameter of shape "
                    f"{mine.shape} here and {shared.shape} there"
                )
            mine.share_data(shared)
