"""Normalization layers: BatchNorm."""

import torch

from ..blob import Blob, show
from ..layer import TensorLayer, register
from ..proto import caffe_pb2


@register
class BatchNorm(TensorLayer):
    """Normalises every channel to zero mean and unit variance; Scale adds the learned part.

    bottom, top: (N, C, ...). y = (x - mean) / sqrt(var + eps), over the batch while training
    (biased variance), else by the stored statistics. Three blobs that the solver leaves alone:
    sums of means and of unbiased variances, (C,) each, and their weight, (1,); every training
    pass multiplies all three by moving_average_fraction and adds its own with weight 1.
    Options: batch_norm_param. Ioffe and Szegedy, 2015; Caffe's BatchNormLayer. scale_bias, of
    NVCaffe, adds blobs scale and bias, (C,) each: y = scale (x - mean) / sqrt(var + eps) + bias.
    """

    param_name = "batch_norm_param"
    fork_fields = ("scale_bias", "scale_filler", "bias_filler")
    always_propagates = True

    def setup(self, *shapes):
        channels = shapes[0][1] if len(shapes[0]) > 1 else 1
        for size in (channels, channels, 1):
            self.blobs.append(Blob(size, is_param=True))
        if self.options.scale_bias:
            self._add_scale_and_bias(channels)
        for spec in self.layer_param.param[:3]:
            if spec.lr_mult != 0:
                raise self.error(
                    f"its blobs are statistics, not weights: param lr_mult must be 0; "
                    f"found {spec.lr_mult}"
                )

    def _add_scale_and_bias(self, channels):
        for name, value in (("scale_filler", 1), ("bias_filler", 0)):
            filler = caffe_pb2.FillerParameter(type="constant", value=value)
            if self.options.HasField(name):
                filler = getattr(self.options, name)
            self.add_param((channels,), filler)

    def param_specs(self) -> list:
        """The solver leaves statistics alone, whether the prototxt says so or not."""
        given = super().param_specs()
        return given + [caffe_pb2.ParamSpec(lr_mult=0) for _ in self.blobs[len(given) : 3]]

    def reshape(self, *shapes):
        channels = shapes[0][1] if len(shapes[0]) > 1 else 1
        if channels != self.blobs[0].shape[0]:
            raise self.shape_error(
                f"holds statistics of {self.blobs[0].shape[0]} channels; "
                f"bottom has shape {tuple(shapes[0])}"
            )
        return [shapes[0]]

    @property
    def uses_stored_statistics(self):
        if self.options.HasField("use_global_stats"):
            return self.options.use_global_stats
        return not self.training

    @property
    def repeats(self):
        return self.uses_stored_statistics  # otherwise it adds to them

    @property
    def scale_and_bias(self):
        """The tensors of NVCaffe's scale and bias, or None for both."""
        return [blob.tensor for blob in self.blobs[3:]] or [None, None]

    def forward(self, x):
        return self.normalize(x, *self.scale_and_bias)

    def per_channel(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self.uses_stored_statistics:
            return None
        mean, variance = (statistic.double() for statistic in self.stored_statistics())
        factor = (variance + self.options.eps).rsqrt()
        scale, bias = self.scale_and_bias
        if scale is None:
            return factor, -mean * factor
        return factor * scale, bias - mean * factor * scale

    def normalize(self, x, scale=None, bias=None):
        """x normalised and, if given, scaled and shifted by channel in the same pass."""
        if self.uses_stored_statistics:
            self.mean, self.variance = self.stored_statistics()
            self.inverse_std = (self.variance + self.options.eps).rsqrt()
            return torch.batch_norm(
                _channels(x),
                scale,
                bias,
                self.mean,
                self.variance,
                False,
                0,
                self.options.eps,
                False,
            ).view(x.shape)
        mean, variance = (torch.zeros_like(blob.tensor) for blob in self.blobs[:2])
        # with momentum 1 the running statistics are this batch's own mean and unbiased variance
        y, self.mean, self.inverse_std = torch.native_batch_norm(
            _channels(x), scale, bias, mean, variance, True, 1.0, self.options.eps
        )
        self.variance = variance
        self._remember(mean, variance, x.numel() // mean.numel())
        return y.view(x.shape)

    def statistics(self, x, kernels):
        """Mean and biased variance, (C,) each: of the batch, which are remembered, or stored."""
        if self.uses_stored_statistics:
            return self.stored_statistics()
        found = kernels.measure(
            x, self.options.moving_average_fraction, *[blob.tensor for blob in self.blobs[:3]]
        )
        show(self.blobs, "data")
        return found

    def _remember(self, mean, variance, count):
        if count == 1:  # no unbiased variance of one value; Caffe stores the biased one
            variance.zero_()
        fraction = self.options.moving_average_fraction
        for blob, value in zip(self.blobs[:3], (mean, variance, 1), strict=True):
            blob.tensor.mul_(fraction).add_(value)
        show(self.blobs, "data")

    def stored_statistics(self):
        """Mean and variance, (C,) each."""
        weight = self.blobs[2].tensor
        factor = torch.where(weight == 0, 0, 1 / weight)
        return self.blobs[0].tensor * factor, self.blobs[1].tensor * factor

    def backward(self, diffs, bottoms, tops, wanted):
        scale = self.scale_and_bias[0]
        return [self.gradients(diffs[0], bottoms[0], scale, (True, False, False))[0]]

    def backward_params(self, diffs, bottoms, tops):
        if self.options.scale_bias:
            mask = (False, *self.param_propagate_down[3:5])
            found = self.gradients(diffs[0], bottoms[0], self.scale_and_bias[0], mask)[1:]
            for blob, gradient, wanted in zip(self.blobs[3:], found, mask[1:], strict=True):
                if wanted:
                    blob.accumulate_diff(gradient)

    def gradients(self, dy, x, scale, mask):
        """The diffs of x, scale and bias that `mask` asks for."""
        dx, dscale, dbias = torch.ops.aten.native_batch_norm_backward(
            _channels(dy.to(x.dtype)),
            _channels(x),
            scale,
            self.mean,
            self.variance,
            self.mean,
            self.inverse_std,
            not self.uses_stored_statistics,
            self.options.eps,
            mask,
        )
        return dx.view(x.shape) if mask[0] else None, dscale, dbias


def _channels(x):
    """`x` as (N, C, ...): a single axis is a batch of one-channel values."""
    return x if x.dim() > 1 else x.view(-1, 1)
