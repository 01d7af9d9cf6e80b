"""How batches come to where the net computes: a GPU's memory, this memory, an original Caffe's."""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import Any, Callable

import numpy as np

from .scene_pool import Pool

try:  # this repository's engine: tensors on any device
    import torch

    from caffe import device
except ImportError:  # an original Caffe: numpy arrays
    torch = device = None


def place(array: np.ndarray) -> Any:
    """An array where the net computes; a GPU fetches it while the program goes on.

    It may be written into again once `device.mark()`, called after this, has passed.
    """
    return array if device is None else device.upload(device.staged(torch.from_numpy(array)))


def floats(pixels: np.ndarray) -> Any:
    """uint8 pixels as floats, where the net computes."""
    return pixels.astype(np.float32) if device is None else place(pixels).to(torch.float32)


def host() -> Callable | None:
    """What hands over a numpy array where the net computes in this memory, else None."""
    if device is None:
        return np.asarray
    return torch.from_numpy if device.current().type == "cpu" else None


def fill_images(top: Any, images: Any) -> None:
    """Let a top (N, C, h, w) hold floats (N, h, w, C) that lie where the net computes."""
    if device is None:
        top.data[...] = images.transpose(0, 3, 1, 2)
    else:
        top.tensor = images.permute(0, 3, 1, 2)  # (N, C, h, w), channels last


def fill_labels(top: Any, labels: np.ndarray) -> None:
    """Let a top (N, ...) hold labels; a GPU fetches them while the program goes on."""
    if device is None:
        top.data[...] = labels
    else:
        values = torch.from_numpy(labels).to(device.master_dtype())
        top.tensor = device.upload(device.staged(values))


def mark() -> Any:
    """The event after which a GPU has fetched everything so far; None where it is not needed."""
    return None if device is None else device.mark()


def pin(pool: Pool) -> None:
    """Let a GPU fetch batches from the workers' memory while it computes.

    Where CUDA refuses, `place` copies each batch into memory from which it can.
    """
    if device is None or device.current().type != "cuda":
        return
    pixels = pool.slots.pixels
    code = torch.cuda.cudart().cudaHostRegister(pixels.ctypes.data, pixels.nbytes, 0)
    if int(code):
        _warn(pool.where, "cudaHostRegister", code, "batches take one copy more on their way")
        _forget_error()
    else:
        weakref.finalize(pool, _unpin, pool.where, pixels.ctypes.data)


def _unpin(where: str, address: int) -> None:
    torch.cuda.synchronize()  # the GPU may still be fetching
    code = torch.cuda.cudart().cudaHostUnregister(address)
    if int(code):
        _warn(where, "cudaHostUnregister", code, "the memory of its batches stays locked")
        _forget_error()


def _warn(where: str, call: str, code: Any, consequence: str) -> None:
    reason = torch.cuda.cudart().cudaGetErrorString(code)
    print(f"{where}: {call}: {reason} (error {int(code)}): {consequence}", file=sys.stderr)


def _forget_error() -> None:
    """CUDA reports an error once more, to the next kernel that is launched: let that be this."""
    with contextlib.suppress(RuntimeError):
        torch.zeros(1, device=device.current())
