"""The CPU kernels on tensors: normalization in one pass each way, pooling, one pass for an update,
and 3 x 3 convolutions of few channels.

They take what convolutions take: (N, C, H, W), channels last, or (N, C), in fp32 or bf16.
`fits` says whether they take these tensors; where it says no, PyTorch does the work.
"""

import ctypes

import torch
from torch.autograd.graph import increment_version

from . import native
from .layout import MOST_PLACES, are_alike, are_rows, images

LANES = 16  # channels come in multiples of this
_KINDS = {torch.float32: "_float32", torch.bfloat16: "_bfloat16"}


def fits(*tensors):
    """Whether the kernels are there and take these tensors, of one shape and dtype."""
    return (
        native.library() is not None
        and all(x.is_cpu for x in tensors)
        and are_rows(*tensors)
        and tensors[0].shape[1] % LANES == 0
    )


def measure(x, fraction, means, variances, weight):
    """Mean and biased variance of each channel, (C,) fp32; updates Caffe's three running sums."""
    mean, variance = torch.empty(x.shape[1]), torch.empty(x.shape[1])
    _call(
        "measure",
        x,
        x.data_ptr(),
        *_size(x),
        mean.data_ptr(),
        variance.data_ptr(),
        fraction,
        means.data_ptr(),
        variances.data_ptr(),
        weight.data_ptr(),
    )
    return mean, variance


def normalize(x, other, scale, bias, eps, mean, variance, rectify):
    """y = scale (x - mean) / sqrt(variance + eps) + bias (+ other), or max(that, 0).

    Returns y and a (3, C) tensor for `normalize_backward`: 1 / sqrt(variance + eps), and the
    factor and the shift that x was given.
    """
    y, saved = torch.empty_like(x), torch.empty(3, x.shape[1])
    _call(
        "normalize",
        x,
        x.data_ptr(),
        _pointer(other),
        y.data_ptr(),
        *_size(x),
        _pointer(scale),
        _pointer(bias),
        eps,
        mean.data_ptr(),
        variance.data_ptr(),
        *_row_pointers(saved),
        rectify,
    )
    return y, saved


def normalize_backward(flows, x, scale, mean, saved, *, own_statistics, top=None, rectified=False):
    """[(dx, dscale, dbias, below)] of `normalize` for the flows; below: the diff below the ReLU.

    flows: one or two of (dy, second, want_data), second a diff to be added to dy, or None. top:
    its y, where another blob was added before the ReLU; rectified: whether there was a ReLU
    without that. own_statistics: whether mean and variance were those of x. With neither second
    nor top, below is not kept: None.
    """
    made, pointers = [], []
    for dy, second, want_data in flows:
        below = torch.empty_like(x) if top is not None or second is not None else None
        dx = torch.empty_like(x) if want_data else None
        dscale, dbias = torch.empty(x.shape[1]), torch.empty(x.shape[1])
        made.append((dx, dscale, dbias, below))
        pointers += map(_pointer, (dy, second, below, dx, dscale, dbias))
    inverse_std, factor, shift = _row_pointers(saved)
    if not rectified:
        factor = shift = None
    _call(
        "normalize_backward",
        x,
        (ctypes.c_void_p * len(pointers))(*pointers),
        len(flows),
        x.data_ptr(),
        _pointer(top),
        *_size(x),
        _pointer(scale),
        mean.data_ptr(),
        inverse_std,
        factor,
        shift,
        own_statistics,
    )
    return made


def normalize_response(
    x: torch.Tensor, size: int, alpha: float, beta: float, k: float
) -> torch.Tensor:
    """x / (k + alpha mean(x^2))^beta, by pixel; the mean: over `size` channels around each."""
    y = torch.empty_like(x)
    pointers = x.data_ptr(), y.data_ptr()
    _call("normalize_response", x, *pointers, *_size(x), size, alpha, beta, k)
    return y


def pools(x, kernel):
    """Whether the pooling kernels take these images, (N, C, H, W), and this kernel."""
    return x.dim() == 4 and fits(x) and kernel[0] * kernel[1] <= MOST_PLACES


def max_pool(x, kernel, stride, pad, sizes):
    """The largest value of each window, (N, C, *sizes), and its place in it, int8.

    The place is y kernel_w + x. No window may lie entirely outside the image.
    """
    y, places = images(x, sizes, x.dtype), images(x, sizes, torch.int8)
    _call(
        "max_pool",
        x,
        x.data_ptr(),
        y.data_ptr(),
        places.data_ptr(),
        _geometry(x, x.shape[2:], sizes, kernel, stride, pad),
    )
    return y, places


def max_pool_backward(dy, places, kernel, stride, pad, image):
    """The diff of max_pool's x, (N, C, *image)."""
    dx = images(dy, image, dy.dtype)
    _call(
        "max_pool_backward",
        dy,
        dy.data_ptr(),
        places.data_ptr(),
        dx.data_ptr(),
        _geometry(dy, image, dy.shape[2:], kernel, stride, pad),
    )
    return dx


def average_pool(x, kernel, stride, pad, sizes):
    """The average over each window's part of the image, (N, C, *sizes).

    The image counts with its pad, as in Caffe.
    """
    y = images(x, sizes, x.dtype)
    _call(
        "average_pool",
        x,
        x.data_ptr(),
        y.data_ptr(),
        _geometry(x, x.shape[2:], sizes, kernel, stride, pad),
    )
    return y


def average_pool_backward(dy, kernel, stride, pad, image):
    """The diff of average_pool's x, (N, C, *image)."""
    dx = images(dy, image, dy.dtype)
    _call(
        "average_pool_backward",
        dy,
        dy.data_ptr(),
        dx.data_ptr(),
        _geometry(dy, image, dy.shape[2:], kernel, stride, pad),
    )
    return dx


def _geometry(like, image, sizes, kernel, stride, pad):
    """The Geometry of pooling.cpp: counts, then what each axis has."""
    axes = zip(image, sizes, kernel, stride, pad, strict=True)
    return (ctypes.c_int * 12)(*like.shape[:2], *[value for axis in axes for value in axis])


def convolves(x, weight):
    """Whether the 3 x 3 convolutions, with stride and pad 1, take images and weights like these."""
    outputs, inputs, *kernel = weight.shape
    return (
        native.library() is not None
        and kernel == [3, 3]
        and {outputs, inputs} <= {16, 32, 64}
        and all(t.is_cpu and t.dtype == torch.float32 and t.numel() for t in (x, weight))
    )


def convolve_3x3(x, weight):
    """x (N, C, H, W) convolved with weight (K, C, 3, 3), stride and pad 1: (N, K, H, W)."""
    return _convolve("convolve_3x3", x, weight, (len(x), len(weight), *x.shape[2:]), x, weight)


def convolve_3x3_data_gradient(dy, x, weight):
    """The diff of `convolve_3x3`'s x."""
    return _convolve("convolve_3x3_backward", dy, weight, x.shape, x, weight)


def convolve_3x3_weight_gradient(dy, x, weight):
    """The diff of `convolve_3x3`'s weight."""
    return _convolve("convolve_3x3_backward_weights", dy, x, weight.shape, x, weight)


def _convolve(name, first, second, shape, x, weight):
    """What a kernel makes of its first and second tensor: one of that shape, channels last."""
    (count, inputs, height, width), outputs = x.shape, len(weight)
    last = torch.channels_last
    first, second = first.contiguous(memory_format=last), second.contiguous(memory_format=last)
    result = torch.empty(shape, memory_format=last)
    getattr(native.library(), name)(
        first.data_ptr(),
        second.data_ptr(),
        result.data_ptr(),
        count,
        height,
        width,
        inputs,
        outputs,
        torch.get_num_threads(),
    )
    return result


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

    copies: for each weight a bf16 tensor to round it into, or None. keep_diffs: whether the
    gradients become what was subtracted. held: a tensor; where it is 1, nothing changes.
    """
    if held is not None and held:
        return
    lists = [_pointers(tensors) for tensors in (weights, gradients, velocities, copies)]
    counts = (ctypes.c_long * len(weights))(*[w.numel() for w in weights])
    native.library().update_sgd(
        len(weights),
        *lists,
        counts,
        rate,
        momentum,
        decay,
        gradient_factor,
        nesterov,
        keep_diffs,
        torch.get_num_threads(),
    )
    increment_version([*weights, *gradients])


def can_update(weights, gradients, velocities, momentum, keep_diffs):
    """Whether `update_sgd` takes these lists."""
    return (
        native.library() is not None
        and all(w.is_cpu for w in weights)
        and are_alike(weights, gradients, velocities)
    )


def _call(name, x, *arguments):
    getattr(native.library(), name + _KINDS[x.dtype])(*arguments, torch.get_num_threads())


def _size(x):
    """(rows, channels)."""
    return x.numel() // x.shape[1], x.shape[1]


def _pointer(x):
    return None if x is None else x.data_ptr()


def _row_pointers(saved):
    first, step = saved.data_ptr(), saved.shape[1] * saved.element_size()
    return first, first + step, first + 2 * step


def _pointers(tensors):
    return (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
