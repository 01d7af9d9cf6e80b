"""Out of memory: which layer, how much it asked for, and the batch that would fit."""

import re

import torch

from caffe_plain.errors import OutOfMemoryError
from caffe_plain.memory import amount, limit_bytes, used_bytes

from .. import device

_SIGNS = ("out of memory", "allocate memory", "bad_alloc", "Unable to allocate")
_ASKED = re.compile(r"allocate (?P<number>[\d.]+) (?P<unit>bytes|[KMGT]iB)")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SPREAD = 1.5  # what a batch takes, to what its values take: memory is lost between the pieces


def is_shortage(error: BaseException) -> bool:
    """Whether an error of PyTorch, numpy or Python means that there is no more memory."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(sign in str(error) for sign in _SIGNS)


def named(error: BaseException, node, what: str) -> OutOfMemoryError:
    """The error of a node's layer; what: what the layer was doing."""
    found = _ASKED.search(str(error))
    asked = amount(float(found["number"]) * _UNITS[found["unit"]]) if found else "more memory"
    limit, used = _room()
    return OutOfMemoryError(
        f"layer {node.name!r} ({node.layer.type}) is out of memory in {what} on bottoms "
        f"{[tuple(blob.shape) for blob in node.bottoms]}: it asked for {asked}, and of "
        f"{amount(limit)} {amount(used)} are in use"
    )


def advised(error: OutOfMemoryError, nodes: list) -> OutOfMemoryError:
    """The error with the size of the batch that would fit, where the net has batches."""
    batch = next(
        (b.shape[0] for node in nodes if not node.bottoms for b in node.tops if b.shape), 0
    )
    per_item_bytes = _peak_bytes(nodes) / batch if batch else 0
    if not per_item_bytes:
        return error
    limit, used = _room()
    fits = int((limit - (used - _held_bytes(nodes))) / (per_item_bytes * _SPREAD))
    cure = f"a batch of {fits} would fit" if fits > 0 else "not even one item would fit"
    if fits >= batch:  # something else fills the memory
        cure = "the batch alone would fit: end what else uses the memory"
    return OutOfMemoryError(
        f"{error}; the batch of {batch} takes up to {amount(per_item_bytes * batch)}: {cure}"
    )


def _room():
    """(bytes that this process may have, bytes it has) on the device in force."""
    if device.ordinal < 0:
        return limit_bytes(), used_bytes()
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved(), torch.cuda.memory_allocated()


def _peak_bytes(nodes):
    """About what the values and diffs of a whole pass take, and one layer's work beside them."""
    kept, largest = 0, 0
    for node in nodes:
        if not node.in_place and not node.layer.shares_data:
            made = sum(blob.count * blob.dtype.itemsize for blob in node.tops)
            kept += made * (1 + node.needs_backward)
            largest = max(largest, made)
    return kept + 2 * largest


def _held_bytes(nodes):
    """What the values and diffs of the nodes' tops take now."""
    tensors = [
        blob.store(what).peek() for node in nodes for blob in node.tops for what in ("data", "diff")
    ]
    memories = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({memory.data_ptr(): memory.nbytes() for memory in memories}.values())
