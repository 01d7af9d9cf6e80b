"""How close a layer comes to what the machine can do (Williams, Waterman and Patterson, 2009).

A layer that does W operations on B bytes takes at least max(W / peak, B / bandwidth). Peak and
bandwidth are measured beforehand: a matrix product, and a copy too large for any cache; a layer
whose values fit in a cache can therefore pass 100 %.
"""

from collections import namedtuple

import torch

from .. import device
from ..timer import Timer
from .summarize import operations

Work = namedtuple("Work", "flop bytes")
_SIZE = 2048  # of the matrices
_COPIED_BYTES = 1 << 28
_TRIES = 5


class Roofline:
    """The peak (GFLOP/s) and the bandwidth (GB/s) of the device and precision in force."""

    def __init__(self):
        dtype, place = device.dtype(), device.current()
        a, b = (torch.ones(_SIZE, _SIZE, dtype=dtype, device=place) for _ in range(2))
        self.gflops = 2 * _SIZE**3 / _shortest_ms(lambda: a @ b) / 1e6
        source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=place)
        target = torch.empty_like(source)
        self.gbps = 2 * _COPIED_BYTES / _shortest_ms(lambda: target.copy_(source)) / 1e6

    def __str__(self):
        return f"{self.gflops:.0f} GFLOP/s, {self.gbps:.1f} GB/s"

    def rates(self, work, ms):
        """Describe `work` done in so many milliseconds."""
        least_ms = max(work.flop / self.gflops, work.bytes / self.gbps) / 1e6
        return (
            f"{work.flop / ms / 1e6:.1f} GFLOP/s, {work.bytes / ms / 1e6:.2f} GB/s, "
            f"{least_ms / ms:.0%} of the roofline"
        )


def forward_work(node):
    """The least that forward has to do: every bottom and parameter read, every top written."""
    return Work(operations(node), _bytes(node.bottoms) + _bytes(node.tops) + _param_bytes(node))


def backward_work(node):
    """The least that backward has to do.

    A matrix product in forward is one matrix product in backward for each gradient that is wanted,
    of the data and of the weights. Backward reads the diffs of the tops, writes those of the
    bottoms and parameters, and reads the values of bottoms and tops that the layer needs.
    """
    layer, tops, bottoms = node.layer, _bytes(node.tops), _bytes(node.bottoms)
    learns = any(layer.param_propagate_down)
    wanted = any(node.propagate_down) + (learns if layer.blobs else 0)
    below = sum(
        _bytes([blob])
        for blob, propagate in zip(node.bottoms, node.propagate_down, strict=True)
        if propagate
    )
    return Work(
        operations(node) * wanted,
        tops
        + below
        + tops * layer.reads_top
        + bottoms * layer.reads_bottom
        + 2 * _param_bytes(node) * learns,
    )


def _bytes(blobs):
    return sum(blob.count for blob in blobs) * torch.finfo(device.dtype()).bits // 8


def _param_bytes(node):
    return _bytes(node.layer.blobs)


def _shortest_ms(function):
    function()
    return min(_ms(function) for _ in range(_TRIES))


def _ms(function):
    timer = Timer()
    timer.start()
    function()
    return timer.ms
