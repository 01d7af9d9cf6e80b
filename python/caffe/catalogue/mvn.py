"""MVN: mean and variance normalization of each image."""

from ..layer import TensorLayer, register
from .loss import at_least_single


@register
class MVN(TensorLayer):
    """y = (x - mean) / (std + eps), over each channel of each image.

    bottom: (N, C, ...); top: the same, with trailing axes of 1 up to 4 axes. With
    across_channels mean and std (biased) are those of the whole image; without
    normalize_variance only the mean is subtracted. Options: mvn_param. Caffe's MVNLayer.
    """

    param_name = "mvn_param"
    reads_bottom = False
    reads_top = True

    def reshape(self, *shapes):
        shape = tuple(shapes[0]) + (1,) * (4 - len(shapes[0]))
        self.axes = tuple(range(1 if self.options.across_channels else 2, len(shape)))
        return [shape]

    def forward(self, x):
        full = x.reshape(x.shape + (1,) * (4 - x.dim()))
        centred = self._centred(full.to(at_least_single(x.dtype)))
        if self.options.normalize_variance:
            deviation = self._mean(centred.square()).sqrt()
            self.scale = 1 / (deviation + self.options.eps)
            centred = centred * self.scale
        return centred.to(x.dtype)

    def backward(self, diffs, bottoms, tops, wanted):
        """Caffe's gradient, which treats eps as negligible beside the deviation."""
        dy = diffs[0].to(at_least_single(diffs[0].dtype))
        dx = self._centred(dy)
        if self.options.normalize_variance:
            dx = (dx - tops[0] * self._mean(tops[0] * dy)) * self.scale
        return [dx.to(diffs[0].dtype).reshape(bottoms[0].shape)]

    def _mean(self, x):
        return x.mean(self.axes, keepdim=True)

    def _centred(self, x):
        return x - self._mean(x)
