"""Common layers: InnerProduct, Embed, Parameter, Dropout."""

import math

import torch

from .. import device
from ..blob import Blob
from ..kernels import linear
from ..layer import TensorLayer, register


@register
class InnerProduct(TensorLayer):
    """A fully connected layer: y = x W^T + b.

    bottom: (N, C, H, W), seen as (M, K) with M the sizes before `axis` (default 1) and K the
    rest; top: the sizes before `axis`, then num_output. Weights (num_output, K), or with
    `transpose` (K, num_output), then a bias (num_output,) unless bias_term is false.
    Options: inner_product_param. Caffe's InnerProductLayer.
    """

    param_name = "inner_product_param"

    def setup(self, *shapes):
        options = self.options
        axis = self.canonical_axis(options.axis, shapes[0])
        if options.num_output < 1:
            raise self.error("num_output is missing; give the number of outputs, 1 or more")
        shape = (options.num_output, math.prod(shapes[0][axis:]))
        self.transpose = options.transpose
        self.add_param(shape[::-1] if self.transpose else shape, options.weight_filler)
        if options.bias_term:
            self.add_param((options.num_output,), options.bias_filler)

    def reshape(self, *shapes):
        self.axis = axis = self.canonical_axis(self.options.axis, shapes[0])
        expected = self.blobs[0].shape[0 if self.transpose else 1]
        if math.prod(shapes[0][axis:]) != expected:
            raise self.shape_error(
                f"the weights are for {expected} inputs; bottom has shape {tuple(shapes[0])} with "
                f"{math.prod(shapes[0][axis:])} from axis {axis} on"
            )
        self.inputs, self.outputs = expected, self.options.num_output
        return [tuple(shapes[0][:axis]) + (self.options.num_output,)]

    def forward(self, x):
        rows = self._rows(x, self.inputs)
        bias = self.blobs[1].rounded(rows.dtype) if len(self.blobs) > 1 else None
        y = linear.forward(rows, self._weight(rows.dtype), bias)  # (M, num_output)
        return y if self.axis == 1 else y.view(x.shape[: self.axis] + y.shape[1:])

    def backward(self, diffs, bottoms, tops, wanted):
        x = bottoms[0]
        dy = self._rows(diffs[0], self.outputs)
        dx = dy @ self._weight(dy.dtype)  # (M, K)
        return [device.layout(device.in_shape(device.cast(dx, x.dtype), x.shape))]

    def backward_params(self, diffs, bottoms, tops):
        dy = self._rows(diffs[0], self.outputs)
        if self.param_propagate_down[0]:
            x = self._rows(bottoms[0], self.inputs)
            above, below = (x, dy) if self.transpose else (dy, x)
            self.blobs[0].accumulate_diff(linear.weight_gradient(above, below))
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].accumulate_diff(dy.sum(0))

    def _weight(self, dtype):
        """The weights as (num_output, K)."""
        weight = self.blobs[0].rounded(dtype)
        return weight.T if self.transpose else weight

    def _rows(self, values, columns):
        """`values` as (M, columns); what comes from outside may have another precision."""
        rows = values if values.dim() == 2 and self.axis == 1 else values.reshape(-1, columns)
        return device.cast(rows, device.dtype())


@register
class Embed(TensorLayer):
    """A learned vector for each index: an InnerProduct of one-hot inputs.

    bottom: any shape, integers from 0 to input_dim - 1; top: that shape, then num_output.
    Weights (input_dim, num_output), then a bias (num_output,) unless bias_term is false.
    Options: embed_param. Caffe's EmbedLayer.
    """

    param_name = "embed_param"

    def setup(self, *shapes):
        options = self.options
        if options.num_output < 1 or options.input_dim < 1:
            raise self.error(
                "num_output (the length of a vector) and input_dim (how many indices "
                "there are) must be given, 1 or more"
            )
        self.add_param((options.input_dim, options.num_output), options.weight_filler)
        if options.bias_term:
            self.add_param((options.num_output,), options.bias_filler)

    def reshape(self, *shapes):
        return [(*shapes[0], self.options.num_output)]

    def forward(self, x):
        y = torch.nn.functional.embedding(x.long(), self.blobs[0].tensor)  # (..., num_output)
        if self.options.bias_term:
            y = y + self.blobs[1].tensor
        return y.to(device.dtype())

    def allows_backward(self, index):
        return False

    def backward(self, diffs, bottoms, tops, wanted):
        return [None]

    def backward_params(self, diffs, bottoms, tops):
        dy = diffs[0].reshape(-1, self.options.num_output)
        if self.param_propagate_down[0]:
            weight = self.blobs[0].tensor
            self.blobs[0].accumulate_diff(
                torch.zeros_like(weight).index_add_(
                    0, bottoms[0].reshape(-1).long(), dy.to(weight.dtype)
                )
            )
        if self.options.bias_term and self.param_propagate_down[1]:
            self.blobs[1].accumulate_diff(dy.sum(0))


@register
class Parameter(TensorLayer):
    """A learned blob as a top, so that other layers can compute with it.

    top: the shape in parameter_param, which is also the only parameter blob's. It starts at
    zero. From the first forward pass on, top and parameter share their values, unless the top is
    rounded to bf16. Caffe's ParameterLayer.

    NOTE: Caffe's also share the diff, so that each pass replaces the gradient; here it is added to
    that of earlier passes (iter_size, several losses), as for all other parameters.
    """

    bottom_count = (0, 0)
    param_name = "parameter_param"
    makes_fresh_tops = False

    def connect(self, bottoms, tops):
        self.top = tops[0]

    def setup(self, *shapes):
        self.add_param(tuple(self.options.shape.dim))

    def reshape(self, *shapes):
        return [self.blobs[0].shape]

    def forward(self):
        parameter = self.blobs[0]
        values = parameter.tensor.to(device.dtype())
        if values is parameter.tensor:
            self.top.share_data(parameter)
        elif self.top.store("data") is parameter.store("data"):  # the precision has changed
            self.top.share_data(Blob(*parameter.shape))
        return values

    def backward(self, diffs, bottoms, tops, wanted):
        return []

    def backward_params(self, diffs, bottoms, tops):
        self.blobs[0].accumulate_diff(diffs[0].clone())


@register
class Dropout(TensorLayer):
    """While training, zeroes each value with probability dropout_ratio and scales the others up.

    bottom, top: any shape. y = x mask / (1 - dropout_ratio), so that a ratio of 1 gives NaN, as in
    Caffe; in the TEST phase y = x. Forks: with scale_train: false (PSPNet) y = x mask, and in the
    TEST phase y = x (1 - dropout_ratio); sample_weights_test (SegNet) drops in both phases.
    Options: dropout_param. Hinton et al., 2012; Caffe's DropoutLayer.
    """

    param_name = "dropout_param"
    fork_fields = ("scale_train", "sample_weights_test")
    reads_bottom = False

    def setup(self, *shapes):
        self.drops = self.training or self.options.sample_weights_test
        if self.drops and not 0 <= self.options.dropout_ratio <= 1:
            raise self.error(
                f"dropout_ratio must be at least 0 and at most 1; found "
                f"{self.options.dropout_ratio}"
            )
        self.keep = 1 - self.options.dropout_ratio
        self.passes_on = not self.drops and self.options.scale_train
        self.makes_fresh_tops = not self.passes_on

    @property
    def repeats(self):
        return not self.drops

    def forward(self, x):
        if self.passes_on:
            return x
        if not self.drops:
            return x * self.keep
        generator = device.generator(x.device.type)
        self.mask = torch.empty_like(x).bernoulli_(self.keep, generator=generator)
        if self.options.scale_train:
            self.mask.div_(self.keep)
        return x.mul_(self.mask) if self.overwrite else x * self.mask

    def backward(self, diffs, bottoms, tops, wanted):
        if self.passes_on:
            return [diffs[0]]
        return [diffs[0] * (self.mask if self.drops else self.keep)]
