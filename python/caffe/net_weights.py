"""Weights into and out of a net: copy by layer name, save as .caffemodel or HDF5."""

import numpy as np
import torch

from . import device
from .errors import WeightsError
from .proto import weights


def copy_weights(nodes, path):
    """Set the parameters of every layer that `path` also holds; others stay as they are.

    All shapes are checked before anything is written.
    """
    blobs = {node.name: node.layer.blobs for node in nodes}
    found = [(name, arrays) for name, arrays in weights.read_weights(path) if name in blobs]
    for name, arrays in found:
        _check(path, name, blobs[name], arrays)
    for name, arrays in found:
        for blob, array in zip(blobs[name], arrays, strict=True):
            tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32).reshape(blob.shape))
            blob.tensor.copy_(tensor.to(device.current()))


def _check(path, name, blobs, arrays):
    if len(blobs) != len(arrays):
        raise WeightsError(f"{path}: layer {name!r} has {len(arrays)} blobs there and "
                           f"{len(blobs)} in this net; rename the layer to learn it from scratch")
    for index, (blob, array) in enumerate(zip(blobs, arrays, strict=True)):
        if not _fits(blob.shape, array.shape):
            raise WeightsError(
                f"{path}: layer {name!r}, param {index} has shape {array.shape} there and "
                f"{blob.shape} in this net; rename the layer to learn it from scratch")


def _fits(shape, found):
    """Equal, or equal but for the leading 1s of the old four-axis shapes."""
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    return tuple(shape) == tuple(found) or (len(found) == 4 and padded == tuple(found))


def save_weights(param, nodes, path, write_diff=False):
    """Write the net's definition and parameters."""
    values = {
        node.name: [(blob.tensor.float().cpu().numpy(),
                     blob.diff_tensor.float().cpu().numpy() if write_diff else None)
                    for blob in node.layer.blobs]
        for node in nodes if node.layer.blobs}
    weights.write_weights(str(path), param, values)
