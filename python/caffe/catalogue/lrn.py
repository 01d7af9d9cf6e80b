"""LRN: local response normalization."""

import torch

from ..kernels import cpu
from ..layer import TensorLayer, register
from ..proto import caffe_pb2
from .loss import at_least_single

_REGION = caffe_pb2.LRNParameter


@register
class LRN(TensorLayer):
    """y = x / (k + alpha mean(x^2))^beta, the mean over a neighbourhood of local_size.

    bottom, top: (N, C, H, W). The neighbours are channels (ACROSS_CHANNELS), or the square around
    the pixel (WITHIN_CHANNEL, where Caffe's k is 1); beyond the edge values are zero.
    Options: lrn_param. Krizhevsky et al., 2012; Caffe's LRNLayer.
    """

    param_name = "lrn_param"

    def setup(self, *shapes):
        if self.options.local_size % 2 == 0:
            raise self.error(f"local_size must be odd; found {self.options.local_size}")
        self.across = self.reads_top = self.options.norm_region == _REGION.ACROSS_CHANNELS

    def reshape(self, *shapes):
        if len(shapes[0]) != 4:
            raise self.shape_error(f"the bottom must be (N, C, H, W); found {tuple(shapes[0])}")
        return [shapes[0]]

    def forward(self, x):
        options = self.options
        square = x.to(at_least_single(x.dtype)).square()
        self.scale = self._mean(square).mul_(options.alpha).add_(options.k if self.across else 1)
        return self.scale.pow(-options.beta).mul_(x).to(x.dtype)

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        options = self.options
        if not self.across or not cpu.fits(x):
            return self.forward(x)
        return cpu.normalize_response(x, options.local_size, options.alpha, options.beta, options.k)

    def backward(self, diffs, bottoms, tops, wanted):
        """dx = dy s^-beta - 2 alpha beta x mean(dy y / s): the mean is self-adjoint."""
        options, dy, x = self.options, diffs[0], bottoms[0]
        dx = self.scale.pow(-options.beta).mul_(dy)
        product = dy * tops[0] if self.across else dx * x  # the same, but Caffe reads the top
        neighbours = self._mean(product.to(dx.dtype).div_(self.scale))
        factor = -2 * options.alpha * options.beta
        return [dx.addcmul_(neighbours, x.to(dx.dtype), value=factor).to(x.dtype)]

    def _mean(self, x):
        """The mean over each value's neighbourhood, in fresh memory."""
        size = self.options.local_size
        if not self.across:
            return torch.nn.functional.avg_pool2d(x, size, 1, size // 2)
        total = x.clone()
        for shift in range(1, min(size // 2 + 1, x.shape[1])):
            total[:, shift:] += x[:, :-shift]
            total[:, :-shift] += x[:, shift:]
        return total.div_(size)
