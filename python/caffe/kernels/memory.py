"""Memory on the CPU that is to stay, in large pages where the system has them.

A large page is one piece of the machine's memory, 2 MiB or so: fewer places to look up, and values
that lie side by side do not push each other out of a cache.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
from collections.abc import Sequence

import torch

_PAGE = 2 << 20  # bytes; of Linux on x86 and most ARM
_PIECE = 4 * _PAGE  # what smaller tensors share, freed with the last of them
_LARGE = _PIECE // 2  # has pages of its own
_LINE = 64  # bytes: where a tensor begins

_lock = threading.Lock()
_room = torch.empty(0, dtype=torch.uint8)  # what is left of the newest piece


def lasting(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A C-ordered tensor that is to stay, its values whatever they are."""
    global _room
    size = math.prod(shape) * dtype.itemsize
    if size >= _LARGE:
        return _mapped(size)[:size].view(dtype).view(tuple(shape))
    with _lock:
        if len(_room) < size:
            _room = _mapped(_PIECE)
        part, _room = _room[:size], _room[-(-size // _LINE) * _LINE :]
    return part.view(dtype).view(tuple(shape))


def new(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """The same for what is made to be compared, and may be dropped again; see settled."""
    if math.prod(shape) * dtype.itemsize >= _LARGE:
        return lasting(shape, dtype)
    return torch.empty(tuple(shape), dtype=dtype)


def settled(tensor: torch.Tensor) -> torch.Tensor:
    """What `new` made, or a copy of it that is to stay."""
    if tensor.numel() * tensor.element_size() >= _LARGE:
        return tensor
    return lasting(tensor.shape, tensor.dtype).copy_(tensor)


def _mapped(size):
    """Memory for at least so many bytes, in whole pages, that begins with one."""
    size = -(-size // _PAGE) * _PAGE
    try:
        pages = mmap.mmap(-1, size + _PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"cannot allocate {size} bytes") from error
    values = torch.frombuffer(pages, dtype=torch.uint8)  # keeps `pages`
    begin = -values.data_ptr() % _PAGE
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE, begin, size)
    return values[begin : begin + size]
