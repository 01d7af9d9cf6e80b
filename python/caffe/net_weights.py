"""Weights into and out of a net: copy by layer name, save as .caffemodel or HDF5."""

import numpy as np
import torch

from . import device
from .errors import WeightsError
from .proto import weights


def copy_weights(nodes, learnable, path):
    """Set the parameters of every layer that `path` also holds; others stay as they are.

    All shapes are checked before anything is written. In HDF5 a layer may lack the parameters
    that it shares with another layer.
    """
    owned = {id(param.blob) for param in learnable}
    blobs = {node.name: node.layer.blobs for node in nodes}
    found = []
    for name, arrays in weights.read_weights(path):
        if name in blobs:
            arrays = arrays + [None] * (len(blobs[name]) - len(arrays))
            _check(path, name, blobs[name], arrays, owned)
            found += [(blob, array) for blob, array in zip(blobs[name], arrays, strict=True)
                      if array is not None]
    for blob, array in found:
        tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32).reshape(blob.shape))
        blob.tensor.copy_(tensor.to(device.current()))


def _check(path, name, blobs, arrays, owned):
    missing = [blob for blob, array in zip(blobs, arrays, strict=False) if array is None]
    if len(blobs) != len(arrays) or any(id(blob) in owned for blob in missing):
        raise WeightsError(
            f"{path}: layer {name!r} has {len(arrays) - len(missing)} blobs there and "
            f"{len(blobs)} in this net; rename the layer to learn it from scratch")
    for index, (blob, array) in enumerate(zip(blobs, arrays, strict=True)):
        if array is not None and not _fits(blob.shape, array.shape):
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
