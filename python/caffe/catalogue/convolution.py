"""Vision layers that convolve: Convolution, Deconvolution."""

import torch

from ..layer import TensorLayer, register
from .geometry import check_positive, convolved, spatial


class _BaseConvolution(TensorLayer):
    """What Convolution and Deconvolution share (Caffe's BaseConvolutionLayer).

    Any number of spatial axes from 1 to 3; axes before `axis` are batch axes.
    """

    bottom_count = (1, None)
    top_count = (1, None)
    param_name = "convolution_param"
    transposed = False

    def setup(self, *shapes):
        options, shape = self.options, shapes[0]
        axis = self.canonical_axis(options.axis, shape)
        axes = len(shape) - axis - 1
        if not 1 <= axes <= 3:
            raise self.error(f"convolves 1 to 3 spatial axes; bottom {tuple(shape)} has {axes} "
                             f"after channel axis {axis}")
        self.axis = axis
        self.kernel = spatial(self, options, "kernel_size", axes)
        self.stride = spatial(self, options, "stride", axes, 1)
        self.pad = spatial(self, options, "pad", axes, 0)
        self.dilation = spatial(self, options, "dilation", axes, 1)
        self.group, outputs, channels = options.group, options.num_output, shape[axis]
        check_positive(self, kernel_size=self.kernel, stride=self.stride, dilation=self.dilation,
                       num_output=(outputs,), group=(self.group,))
        if channels % self.group or outputs % self.group:
            raise self.error(f"group {self.group} must divide the {channels} input channels and "
                             f"num_output {outputs}")
        first, second = (channels, outputs) if self.transposed else (outputs, channels)
        self.add_param((first, second // self.group) + self.kernel, options.weight_filler)
        if options.bias_term:
            self.add_param((outputs,), options.bias_filler)

    def reshape(self, *shapes):
        axis = self.axis
        expected = self.blobs[0].shape[0 if self.transposed else 1]
        expected *= 1 if self.transposed else self.group
        for index, shape in enumerate(shapes):
            if tuple(shape) != tuple(shapes[0]):
                raise self.shape_error(f"bottom {index} has shape {tuple(shape)}; all bottoms "
                                       f"must be like the first, {tuple(shapes[0])}")
        if shapes[0][axis] != expected:
            raise self.shape_error(f"the weights are for {expected} input channels; bottom has "
                                   f"shape {tuple(shapes[0])} with {shapes[0][axis]}")
        sizes = tuple(self.output_size(size, i) for i, size in enumerate(shapes[0][axis + 1:]))
        if min(sizes) <= 0:
            raise self.shape_error(
                f"kernel {self.kernel} with pad {self.pad} does not fit into the bottom "
                f"{tuple(shapes[0])}: the output would be {sizes}")
        top = tuple(shapes[0][:axis]) + (self.options.num_output,) + sizes
        return [top] * len(shapes)

    def forward(self, *bottoms):
        weight, bias = self._params_for_forward(bottoms[0].dtype)
        return tuple(
            self._unflat(torch.convolution(self._flat(x), weight, bias, *self._geometry()), x)
            for x in bottoms)

    def backward(self, diffs, bottoms, tops, wanted):
        weight = self._weight_for_backward(bottoms[0].dtype)
        return [
            self._unflat(self._gradient(dy, x, weight, (True, False, False))[0], x)
            if want and dy is not None else None
            for dy, x, want in zip(diffs, bottoms, wanted, strict=True)]

    def backward_params(self, diffs, bottoms, tops):
        weight = self._weight_for_backward(bottoms[0].dtype)
        mask = (False, *self._params_wanted())
        for dy, x in zip(diffs, bottoms, strict=True):
            if dy is None or not any(mask):
                continue
            gradients = self._gradient(dy, x, weight, mask)[1:]
            for blob, gradient in zip(self.blobs, gradients, strict=False):
                if gradient is not None:
                    blob.accumulate_diff(gradient)

    def _gradient(self, dy, x, weight, mask):
        bias_sizes = [self.options.num_output] if mask[2] else None
        x, geometry = self._flat(x), self._geometry()
        if mask[1] and self._skips_pixels(x):
            # NOTE: oneDNN's gradient of such weights writes beyond its memory (PyTorch 2.13)
            x = x[(..., *(slice(None, None, step) for step in self.stride))]
            geometry = ((1,) * len(self.stride), *geometry[1:])
        return torch.ops.aten.convolution_backward(
            self._flat(dy), x, weight, bias_sizes, *geometry, mask)

    def _skips_pixels(self, x):
        """Whether this is a 1 x 1 convolution of few channels with a stride."""
        return (x.shape[1] < 16 and max(self.stride) > 1 and max(self.kernel) == 1
                and max(self.pad) == 0 and not self.transposed)

    def _params_for_forward(self, dtype):
        """Weight and bias in the precision of the activations; backward uses the same copy."""
        return self._cast_weight(dtype), (
            self.blobs[1].tensor.to(dtype) if len(self.blobs) > 1 else None)

    def _cast_weight(self, dtype):
        weight = self.blobs[0].tensor
        self.cast_weight, self.cast_version = weight.to(dtype), weight._version
        return self.cast_weight

    def _weight_for_backward(self, dtype):
        """The copy of forward, unless an update has come since."""
        weight = self.blobs[0].tensor
        if weight.dtype == dtype:
            return weight
        return self.cast_weight if weight._version == self.cast_version else (
            self._cast_weight(dtype))

    def _params_wanted(self):
        wanted = self.param_propagate_down
        return wanted[0], len(self.blobs) > 1 and wanted[1]

    def _geometry(self):
        return (self.stride, self.pad, self.dilation, self.transposed,
                (0,) * len(self.kernel), self.group)

    def _flat(self, x):
        """`x` with its batch axes made one."""
        return x if self.axis == 1 else x.reshape((-1,) + x.shape[self.axis:])

    def _unflat(self, y, x):
        return y if self.axis == 1 else y.reshape(x.shape[:self.axis] + y.shape[1:])


@register
class Convolution(_BaseConvolution):
    """Convolves each bottom with the same learned filters.

    bottom: (N, C, H, W); top: (N, num_output, H', W'), H' = floor((H + 2 pad - k) / stride) + 1
    with k = dilation (kernel - 1) + 1. Weights (num_output, C / group, kernel_h, kernel_w), then
    a bias (num_output,) unless bias_term is false. Options: convolution_param.
    """

    def output_size(self, size, i):
        return convolved(size, self.kernel[i], self.stride[i], self.pad[i], self.dilation[i])


@register
class Deconvolution(_BaseConvolution):
    """The transpose of Convolution: its forward is a convolution's backward to data.

    bottom: (N, C, H, W); top: (N, num_output, H', W'), H' = stride (H - 1) + k - 2 pad.
    Weights (C, num_output / group, kernel_h, kernel_w). Options: convolution_param.
    """

    transposed = True

    def output_size(self, size, i):
        extent = self.dilation[i] * (self.kernel[i] - 1) + 1
        return self.stride[i] * (size - 1) + extent - 2 * self.pad[i]
