"""Fillers: the initial values of parameters (Caffe's filler.hpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from caffe_plain.errors import LayerError, nearest

from . import device
from .proto import caffe_pb2

_FAN = caffe_pb2.FillerParameter


def fill(
    shape: Sequence[int], filler: caffe_pb2.FillerParameter | None, layer_name: str = ""
) -> torch.Tensor:
    """A new tensor of `shape`, filled as the FillerParameter says; without one, zeros."""
    shape = tuple(shape)
    if filler is None:
        return torch.zeros(shape, dtype=device.master_dtype(), device=device.current())
    if filler.type not in _FILLERS:
        raise LayerError(
            f"layer {layer_name!r}: unknown filler type {filler.type!r}; "
            + nearest(filler.type, _FILLERS)
        )
    if filler.sparse >= 0 and filler.type != "gaussian":
        raise LayerError(
            f"layer {layer_name!r}: filler {filler.type!r} cannot be sparse; only gaussian can"
        )
    # drawn on the CPU so that a seed gives the same net on every device
    values = _FILLERS[filler.type](
        torch.empty(shape, dtype=torch.float32), filler, device.generator()
    )
    return values.to(device.current(), device.master_dtype())


def _constant(values, filler, generator):
    return values.fill_(filler.value)


def _uniform(values, filler, generator):
    return values.uniform_(filler.min, filler.max, generator=generator)


def _gaussian(values, filler, generator):
    values.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        # each weight is kept with probability sparse / number of outputs
        keep = filler.sparse / values.shape[0]
        values *= torch.rand(values.shape, generator=generator) < keep
    return values


def _positive_unitball(values, filler, generator):
    values.uniform_(0, 1, generator=generator)
    rows = values.view(values.shape[0], -1)
    rows /= rows.sum(1, keepdim=True)
    return values


def _fan(values, filler):
    """The n of xavier and msra: fan in, fan out or their average."""
    fan_in = values.numel() / values.shape[0]
    fan_out = values.numel() / values.shape[1] if values.dim() > 1 else values.numel()
    return {_FAN.FAN_IN: fan_in, _FAN.FAN_OUT: fan_out, _FAN.AVERAGE: (fan_in + fan_out) / 2}[
        filler.variance_norm
    ]


def _xavier(values, filler, generator):
    limit = math.sqrt(3 / _fan(values, filler))
    return values.uniform_(-limit, limit, generator=generator)


def _msra(values, filler, generator):
    return values.normal_(0, math.sqrt(2 / _fan(values, filler)), generator=generator)


def _bilinear(values, filler, generator):
    if values.dim() != 4 or values.shape[2] != values.shape[3]:
        raise LayerError(
            f"the bilinear filler needs square (N, C, K, K) kernels; found {tuple(values.shape)}"
        )
    size = values.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2 * factor)
    ramp = 1 - (torch.arange(size, dtype=torch.float32) / factor - centre).abs()
    return values.copy_(ramp[:, None] * ramp[None, :])


_FILLERS = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
