"""Arrays of any length through a net, batch by batch (pycaffe's forward_all and kin)."""

from itertools import zip_longest

import numpy as np

from caffe_plain.errors import CaffeError


def batches(net, arrays):
    """Yield {blob name: a batch of its array}; the last batch is padded with zeros."""
    if not arrays:
        return
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise CaffeError(f"arrays of different lengths: {lengths}; give each input as many items")
    count = next(iter(lengths.values()))
    size = net._blob(next(iter(arrays))).shape[0]
    for begin in range(0, count, size):
        batch = {name: np.asarray(array[begin : begin + size]) for name, array in arrays.items()}
        missing = size - len(next(iter(batch.values())))
        if missing:
            batch = {
                name: np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
                for name, part in batch.items()
            }
        yield batch


def forward_all(net, blobs, arrays):
    """{output name: array over all items} for inputs of any number of items."""
    found = [_copies(net.forward(blobs=blobs, **batch)) for batch in batches(net, arrays)]
    return _joined(found, _count(net, arrays))


def forward_backward_all(net, blobs, diffs, arrays):
    """({output name: array}, {input name: diff}) over all items of inputs and output diffs."""
    inputs = batches(net, {name: arrays[name] for name in net.inputs if name in arrays})
    heads = batches(net, {name: arrays[name] for name in net.outputs if name in arrays})
    found, gradients = [], []
    for below, above in zip_longest(inputs, heads, fillvalue={}):
        found.append(_copies(net.forward(blobs=blobs, **below)))
        gradients.append(_copies(net.backward(diffs=diffs, **above)))
    count = _count(net, arrays)
    return _joined(found, count), _joined(gradients, count)


def _count(net, arrays):
    if not arrays:
        raise CaffeError(f"expected an array for each of the inputs {net.inputs}; found none")
    return len(next(iter(arrays.values())))


def _copies(arrays):
    return {name: np.array(array) for name, array in arrays.items()}


def _joined(parts, count):
    """The batches one after another, without the padding.

    A top without a batch axis, such as a loss, gives one value per batch.
    """
    if not parts:
        raise CaffeError("arrays without an item: expected at least one")
    joined = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: np.concatenate(found)[:count] if found[0].ndim else np.array(found)
        for name, found in joined.items()
    }
