"""Vision layers that convolve: Convolution, Deconvolution."""

from caffe_plain.geometry import check_positive, convolved, deconvolved, window

from ..kernels import convolution
from ..kernels.geometry import Geometry
from ..layer import TensorLayer, register
from . import convolution_nd


class _BaseConvolution(TensorLayer):
    """What Convolution and Deconvolution share (Caffe's BaseConvolutionLayer).

    Any number of spatial axes; axes before `axis` are batch axes.
    """

    bottom_count = (1, None)
    top_count = (1, None)
    param_name = "convolution_param"
    transposed = False

    def setup(self, *shapes):
        options, shape = self.options, shapes[0]
        axis = self.canonical_axis(options.axis, shape)
        axes = len(shape) - axis - 1
        self.axis = axis
        self.window = window(options, axes, self.error)
        self.kernel, self.stride, self.pad, self.dilation = self.window
        self.group, outputs, channels = options.group, options.num_output, shape[axis]
        self.geometry = Geometry(
            self.stride, self.pad, self.dilation, self.transposed, (0,) * axes, self.group
        )
        check_positive(
            self.error,
            kernel_size=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            num_output=(outputs,),
            group=(self.group,),
        )
        if channels % self.group or outputs % self.group:
            raise self.error(
                f"group {self.group} must divide the {channels} input channels and "
                f"num_output {outputs}"
            )
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
                raise self.shape_error(
                    f"bottom {index} has shape {tuple(shape)}; all bottoms "
                    f"must be like the first, {tuple(shapes[0])}"
                )
        if shapes[0][axis] != expected:
            raise self.shape_error(
                f"the weights are for {expected} input channels; bottom has "
                f"shape {tuple(shapes[0])} with {shapes[0][axis]}"
            )
        axes = zip(shapes[0][axis + 1 :], *self.window, strict=True)
        sizes = tuple(self.output_size(*geometry) for geometry in axes)
        if min(sizes, default=1) <= 0:
            raise self.shape_error(
                f"kernel {self.kernel} with pad {self.pad} does not fit into the bottom "
                f"{tuple(shapes[0])}: the output would be {sizes}"
            )
        top = tuple(shapes[0][:axis]) + (self.options.num_output,) + sizes
        return [top] * len(shapes)

    def forward(self, *bottoms):
        weight, *bias = [blob.rounded(bottoms[0].dtype) for blob in self.blobs]
        bias = bias[0] if bias else None
        return [self._unflat(self._convolve(self._flat(x), weight, bias), x) for x in bottoms]

    def _convolve(self, x, weight, bias):
        if not self._is_native:
            return convolution_nd.convolution(x, weight, bias, *self.geometry)
        return convolution.forward(x, weight, bias, self.geometry)

    def backward(self, diffs, bottoms, tops, wanted):
        weight = self.blobs[0].rounded(bottoms[0].dtype)
        return [
            self._unflat(
                self._gradients(self._flat(dy), self._flat(x), weight, (True, False, False))[0], x
            )
            if want and dy is not None
            else None
            for dy, x, want in zip(diffs, bottoms, wanted, strict=True)
        ]

    def backward_params(self, diffs, bottoms, tops):
        self.backward_both(diffs, bottoms, tops, [False] * len(bottoms))

    def backward_both(self, diffs, bottoms, tops, wanted):
        weight, params_wanted = self.blobs[0].rounded(bottoms[0].dtype), self._params_wanted()
        below = [None] * len(bottoms)
        for index, (dy, x, want) in enumerate(zip(diffs, bottoms, wanted, strict=True)):
            if dy is None or not any(mask := (want, *params_wanted)):
                continue
            dx, *gradients = self._gradients(self._flat(dy), self._flat(x), weight, mask)
            if want:
                below[index] = self._unflat(dx, x)
            for blob, gradient, wanted_here in zip(
                self.blobs, gradients, params_wanted, strict=False
            ):
                if wanted_here:
                    blob.accumulate_diff(gradient)
        return below

    def _gradients(self, dy, x, weight, mask):
        """The diffs of x, weight and bias that `mask` asks for."""
        want_data, want_weight, want_bias = mask
        if not self._is_native:
            sizes = [self.options.num_output] if want_bias else None
            return convolution_nd.backward(dy, x, weight, sizes, *self.geometry, mask)
        geometry, dx, dweight, dbias = self.geometry, None, None, None
        if want_data:
            dx = convolution.data_gradient(dy, x, weight, geometry)
        if want_weight:
            dweight, dbias = convolution.weight_gradient(dy, x, weight, want_bias, geometry)
        elif want_bias:
            dbias = convolution.bias_gradient(dy)
        return dx, dweight, dbias

    @property
    def _is_native(self):
        """Whether PyTorch has a convolution over so many spatial axes."""
        return 1 <= len(self.kernel) <= 3

    def _params_wanted(self):
        wanted = self.param_propagate_down
        return wanted[0], len(self.blobs) > 1 and wanted[1]

    def _flat(self, x):
        """`x` with its batch axes merged into one."""
        return x if self.axis == 1 else x.reshape((-1,) + x.shape[self.axis :])

    def _unflat(self, y, x):
        return y if self.axis == 1 else y.reshape(x.shape[: self.axis] + y.shape[1:])


@register
class Convolution(_BaseConvolution):
    """Convolves each bottom with the same learned filters.

    bottom: (N, C, H, W); top: (N, num_output, H', W'), H' = floor((H + 2 pad - k) / stride) + 1
    with k = dilation (kernel - 1) + 1. Weights (num_output, C / group, kernel_h, kernel_w), then
    a bias (num_output,) unless bias_term is false. Options: convolution_param.
    """

    output_size = staticmethod(convolved)


@register
class Deconvolution(_BaseConvolution):
    """The transpose of Convolution: its forward is a convolution's backward to data.

    bottom: (N, C, H, W); top: (N, num_output, H', W'), H' = stride (H - 1) + k - 2 pad.
    Weights (C, num_output / group, kernel_h, kernel_w). Options: convolution_param.
    """

    transposed = True
    output_size = staticmethod(deconvolved)
