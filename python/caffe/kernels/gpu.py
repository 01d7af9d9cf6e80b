"""The GPU kernels on tensors, in Triton: what cpu.py has, except convolutions.

A normalization takes three launches each way: sums over parts of the rows, their reduction to
what each channel needs, one pass over the values.
"""

from functools import cache

import torch
import triton
from torch.autograd.graph import increment_version

from . import triton_normalization as kernels
from . import triton_pooling as pooling
from .layout import MOST_PLACES, are_alike, are_rows, images

_TILE = 2048  # values that a program holds at a time
_PROGRAMS = 4  # for each multiprocessor: more only make more sums to add up
_BLOCK = 1024  # values that a program of the pooling kernels sees to


@triton.jit
def _store_one(x):
    triton.language.store(x, 1)


def try_out() -> None:
    """Launch a kernel: Triton's first launch calls a C compiler, and raises if that fails."""
    _store_one[(1,)](torch.zeros(1, device="cuda"))


def fits(*tensors):
    """Whether the kernels take these tensors, of one shape and dtype."""
    return are_rows(*tensors)


@cache
def _multiprocessors(device):
    if device.type != "cuda":
        return 1  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


class _Plan:
    """How a kernel divides (rows, channels) among its programs."""

    def __init__(self, x):
        self.channels = x.shape[1]
        self.rows = x.numel() // self.channels
        self.columns = min(64, triton.next_power_of_2(self.channels))
        self.height = _TILE // self.columns
        self.across = triton.cdiv(self.channels, self.columns)
        tiles = triton.cdiv(self.rows, self.height)
        programs = _PROGRAMS * _multiprocessors(x.device)
        self.parts = min(tiles, max(1, programs // self.across))
        self.chunk = triton.cdiv(tiles, self.parts) * self.height
        self.parts = triton.cdiv(self.rows, self.chunk)

    @property
    def tile(self):
        return {"HEIGHT": self.height, "COLUMNS": self.columns}

    def sums(self, x, pairs=1):
        """Memory for pairs of sums of each part and channel."""
        return x.new_empty(2 * pairs, self.parts, self.channels, dtype=torch.float32)

    @property
    def over_parts(self):
        return self.parts, self.across

    @property
    def over_values(self):
        return triton.cdiv(self.rows, self.height), self.across

    @property
    def over_channels(self):
        return (triton.cdiv(self.channels, kernels.FINISHED),)


def measure(x, fraction, means, variances, weight):
    """Mean and biased variance of each channel, (C,) fp32; updates Caffe's three running sums."""
    plan = _Plan(x)
    sums, found = plan.sums(x), x.new_empty(2, plan.channels, dtype=torch.float32)
    kernels.measure[plan.over_parts](x, sums, plan.rows, plan.channels, plan.chunk, **plan.tile)
    kernels.finish_measure[plan.over_channels](
        x, sums, plan.parts, plan.rows, plan.channels, fraction, found, means, variances, weight
    )
    return found[0], found[1]


def normalize(x, other, scale, bias, eps, mean, variance, rectify):
    """y = scale (x - mean) / sqrt(variance + eps) + bias (+ other), or max(that, 0).

    Returns y and a (3, C) tensor for `normalize_backward`: 1 / sqrt(variance + eps), and the
    factor and the shift that x was given.
    """
    plan = _Plan(x)
    y, saved = torch.empty_like(x), x.new_empty(3, plan.channels, dtype=torch.float32)
    kernels.normalize[plan.over_values](
        x,
        other,
        y,
        scale,
        bias,
        mean,
        variance,
        saved,
        plan.rows,
        plan.channels,
        eps,
        RECTIFY=rectify,
        **plan.tile,
    )
    return y, saved


def normalize_backward(flows, x, scale, mean, saved, *, own_statistics, top=None, rectified=False):
    """[(dx, dscale, dbias, below)] of `normalize` for the flows; below: the diff below the ReLU.

    flows: one or two of (dy, second, want_data), second a diff to be added to dy, or None. top:
    its y, where another blob was added before the ReLU; rectified: whether there was a ReLU
    without that. own_statistics: whether mean and variance were those of x. With neither second
    nor top, below is not kept: None.
    """
    plan, count = _Plan(x), len(flows)
    sums, found = plan.sums(x, count), x.new_empty(count, 5, plan.channels, dtype=torch.float32)
    belows = [
        torch.empty_like(x) if top is not None or second is not None else None
        for _, second, _ in flows
    ]
    dxs = [torch.empty_like(x) if want_data else None for _, _, want_data in flows]
    none = (None,) * (2 - count)
    dys, seconds = [[flow[i] for flow in flows] for i in (0, 1)]
    kernels.sum_backward[plan.over_parts](
        *dys,
        *none,
        *seconds,
        *none,
        *belows,
        *none,
        x,
        top,
        mean,
        saved,
        sums,
        plan.rows,
        plan.channels,
        plan.chunk,
        RECTIFIED=rectified,
        **plan.tile,
    )
    kernels.finish_backward[(*plan.over_channels, count)](
        sums, plan.parts, plan.rows, plan.channels, scale, saved, found, OWN=own_statistics
    )
    if any(dx is not None for dx in dxs):
        kernels.normalize_backward[plan.over_values](
            *dys,
            *none,
            *seconds,
            *none,
            *belows,
            *none,
            *dxs,
            *none,
            x,
            mean,
            saved,
            found,
            plan.rows,
            plan.channels,
            RECTIFIED=rectified,
            OWN=own_statistics,
            **plan.tile,
        )
    return [(dx, *params[:2], below) for dx, params, below in zip(dxs, found, belows, strict=True)]


def pools(x, kernel):
    """Whether the pooling kernels take these images, (N, C, H, W), and this kernel."""
    return x.dim() == 4 and fits(x) and x.numel() < 2**31 and kernel[0] * kernel[1] <= MOST_PLACES


def max_pool(x, kernel, stride, pad, sizes):
    """The largest value of each window, (N, C, *sizes), and its place in it, int8.

    The place is y kernel_w + x. No window may lie entirely outside the image.
    """
    y = images(x, sizes, x.dtype)
    places = images(x, sizes, torch.int8)
    pooling.max_pool[triton.cdiv(y.numel(), _BLOCK),](
        x, y, places, y.numel(), x.shape[1], *x.shape[2:], *sizes, *kernel, *stride, *pad, _BLOCK
    )
    return y, places


def max_pool_backward(dy, places, kernel, stride, pad, image):
    """The diff of max_pool's x, (N, C, *image)."""
    dx = images(dy, image, dy.dtype)
    pooling.max_pool_backward[triton.cdiv(dx.numel(), _BLOCK),](
        dy,
        places,
        dx,
        dx.numel(),
        dy.shape[1],
        *image,
        *dy.shape[2:],
        *kernel,
        *stride,
        *pad,
        _BLOCK,
    )
    return dx


def average_pool(x, kernel, stride, pad, sizes):
    """The average over each window's part of the image, (N, C, *sizes).

    The image counts with its pad, as in Caffe.
    """
    y = images(x, sizes, x.dtype)
    pooling.average_pool[triton.cdiv(y.numel(), _BLOCK),](
        x, y, y.numel(), x.shape[1], *x.shape[2:], *sizes, *kernel, *stride, *pad, _BLOCK
    )
    return y


def average_pool_backward(dy, kernel, stride, pad, image):
    """The diff of average_pool's x, (N, C, *image)."""
    dx = images(dy, image, dy.dtype)
    pooling.average_pool_backward[triton.cdiv(dx.numel(), _BLOCK),](
        dy, dx, dx.numel(), dy.shape[1], *image, *dy.shape[2:], *kernel, *stride, *pad, _BLOCK
    )
    return dx


def can_update(weights, gradients, velocities, momentum, keep_diffs):
    """Whether `update_sgd` takes these lists."""
    return momentum != 0 and not keep_diffs and are_alike(weights, gradients, velocities)


def update_sgd(
    weights,
    gradients,
    velocities,
    copies,
    *,
    rate,
    momentum,
    decay,
    gradient_factor,
    nesterov,
    keep_diffs,
    held=None,
):
    """One step of SGD or Nesterov with L2 decay, on lists of tensors of equal layouts.

    copies: for each weight a bf16 tensor to round it into, or None. The gradients are overwritten.
    held: a tensor; where it is 1, weights and velocities stay, and nothing waits for it.

    PyTorch's own multi-tensor step computes v = momentum v + g / s + d w and w -= v with a rate
    of 1; with 1 / s and d multiplied by Caffe's rate, that is Caffe's rule.
    """
    scale = torch.full(
        (), 1 / (rate * gradient_factor) if rate else torch.inf, device=weights[0].device
    )
    torch._fused_sgd_(
        weights,
        gradients,
        velocities,
        weight_decay=decay * rate,
        momentum=momentum,
        lr=1.0,
        dampening=0.0,
        nesterov=nesterov,
        maximize=False,
        is_first_step=False,
        grad_scale=scale,
        found_inf=held,
    )
    increment_version([*weights, *gradients])  # in torch 2 the fused step does not
    kept = [(copy, w) for copy, w in zip(copies, weights, strict=True) if copy is not None]
    if kept:
        torch._foreach_copy_(*map(list, zip(*kept, strict=True)))
