"""Vision layers that pool: Pooling, SPP."""

import torch

from caffe_plain.geometry import check_positive, given, pooled, spatial

from ..kernels import steps
from ..layer import TensorLayer, register
from ..proto import caffe_pb2
from .pooling_windows import AveragePool, MaxPool, StochasticPool, Windows

_METHOD = caffe_pb2.PoolingParameter


class _Pooling(TensorLayer):
    """What Pooling and SPP share: images in, their windows pooled."""

    reads_bottom = False  # only the shape of the bottom matters in backward

    def check_image(self, shape):
        if len(shape) != 4:
            raise self.shape_error(f"the bottom must be (N, C, H, W); found {tuple(shape)}")

    def pool(self, windows):
        """What computes these windows, forward and backward."""
        if self.options.pool == _METHOD.STOCHASTIC:
            if any(windows.pad):
                raise self.error(
                    f"STOCHASTIC cannot pad; found pad {windows.pad}: use MAX or AVE, "
                    "or windows that need no pad"
                )
            return StochasticPool(windows, self.training)
        return {_METHOD.MAX: MaxPool, _METHOD.AVE: AveragePool}[self.options.pool](windows)


@register
class Pooling(_Pooling):
    """The maximum, average or a random pick of each window.

    bottom: (N, C, H, W); top 0: (N, C, H', W'), H' = (H + 2 pad - kernel) / stride + 1, rounded
    up unless round_mode is FLOOR; with pad no window starts beyond the image and its left pad.
    top 1 (optional, MAX): the places of the maxima, y W + x, as numbers. Options: pooling_param.
    Caffe's PoolingLayer.
    """

    top_count = (1, 2)
    param_name = "pooling_param"

    def setup(self, *shapes):
        options = self.options
        self.check_image(shapes[0])
        if options.pool != _METHOD.MAX and len(self.layer_param.top) > 1:
            raise self.error("only MAX has places of maxima for a second top; delete the top")
        self.stride = spatial(options, "stride", 2, 1, self.error)
        self.pad = spatial(options, "pad", 2, 0, self.error)
        if options.global_pooling:
            self._check_global()
            return
        self.kernel = spatial(options, "kernel_size", 2, error=self.error)
        check_positive(self.error, kernel_size=self.kernel, stride=self.stride)
        if any(pad >= size for pad, size in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {self.pad} must be smaller than the kernel {self.kernel}")

    def _check_global(self):
        if given(self.options, "kernel_size"):
            raise self.error("global_pooling takes the bottom's size; delete the kernel size")
        if self.pad != (0, 0) or self.stride != (1, 1):
            raise self.error(
                f"global_pooling needs pad 0 and stride 1; found {self.pad} and {self.stride}"
            )

    def reshape(self, *shapes):
        shape = tuple(shapes[0])
        self.check_image(shape)
        kernel = shape[2:] if self.options.global_pooling else self.kernel
        ceil = self.options.round_mode == _METHOD.CEIL
        axes = zip(shape[2:], kernel, self.stride, self.pad, strict=True)
        sizes = tuple(pooled(*axis, ceil, clip=any(self.pad)) for axis in axes)
        if min(sizes) <= 0:
            raise self.shape_error(
                f"kernel {kernel} with pad {self.pad} does not fit into the "
                f"bottom {shape}: the output would be {sizes}"
            )
        self.pooling = self.pool(Windows(kernel, self.stride, self.pad, shape[2:], sizes, ceil))
        self._own = None
        return [shape[:2] + sizes] * len(self.layer_param.top)

    def parts(self):
        return [self, self.pooling]

    def forward(self, x):
        y = self.pooling.forward(x)
        return y if len(self.layer_param.top) == 1 else (y, self.pooling.mask())

    def infer(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        kind = {_METHOD.MAX: "largest", _METHOD.AVE: "average"}.get(self.options.pool)
        windows = self.pooling.windows
        if (
            kind is None
            or len(self.layer_param.top) > 1
            or not windows.native
            or not steps.fits_channels(x)
        ):
            self._own = None
            return self.forward(x)
        if self._own is None or self._own.dtype != x.dtype:
            axes = windows.image, windows.sizes, windows.kernel, windows.stride, windows.pad
            self._own = steps.pool(kind, steps.Windows(*axes), x.shape, x.dtype)
        return self._own(x)

    def own_call(self) -> steps.Call | None:
        """See TensorLayer."""
        return self._own

    def backward(self, diffs, bottoms, tops, wanted):
        """The places of maxima pass nothing down."""
        return [None if diffs[0] is None else self.pooling.backward(diffs[0], bottoms[0])]


@register
class SPP(_Pooling):
    """Spatial pyramid pooling: the image pooled into 1, 4, 16, ... windows, side by side.

    bottom: (N, C, H, W); top: (N, C (1 + 4 + ... + 4^(pyramid_height - 1))), or (N, C, 1, 1)
    with pyramid_height 1. Options: spp_param. He et al., 2014; Caffe's SPPLayer.
    """

    param_name = "spp_param"

    def setup(self, *shapes):
        self.check_image(shapes[0])
        check_positive(self.error, pyramid_height=(self.options.pyramid_height,))

    def reshape(self, *shapes):
        shape = tuple(shapes[0])
        self.check_image(shape)
        height = self.options.pyramid_height
        self.levels = [self.pool(self._level(shape, 2**level)) for level in range(height)]
        self.sizes = [shape[1] * 4**level for level in range(height)]
        return [shape[:2] + (1, 1) if height == 1 else (shape[0], sum(self.sizes))]

    def _level(self, shape, count):
        """`count` windows each way: the image padded to a multiple of it."""
        kernel = tuple(-(-size // count) for size in shape[2:])
        pad = tuple((k * count - size + 1) // 2 for k, size in zip(kernel, shape[2:], strict=True))
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.shape_error(
                f"an image of {shape[2:]} cannot be divided into {count} x {count} windows of "
                f"{kernel} without empty ones; lower pyramid_height or enlarge the image"
            )
        return Windows(kernel, kernel, pad, shape[2:], (count, count))

    def parts(self):
        return [self, *self.levels]

    def forward(self, x):
        pooled_levels = [level.forward(x) for level in self.levels]
        if len(pooled_levels) == 1:
            return pooled_levels[0]
        return torch.cat([level.flatten(1) for level in pooled_levels], 1)

    def backward(self, diffs, bottoms, tops, wanted):
        x, total = bottoms[0], None
        parts = diffs[0].flatten(1).split(self.sizes, 1)
        for level, part in zip(self.levels, parts, strict=True):
            shape = x.shape[:2] + level.windows.sizes
            dx = level.backward(part.reshape(shape), x)
            total = dx if total is None else total + dx
        return [total]
