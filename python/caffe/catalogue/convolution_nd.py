"""Convolutions over any number of spatial axes, 0 too, where PyTorch's take 1 to 3.

Each place in the kernel is one matrix product. Images are (N, C, ...), weights (outputs,
inputs / group, ...), with outputs and inputs as seen by the convolution that a transposed one
reverses. The arguments of `convolution` and `backward` are those of PyTorch's.
"""

import itertools

import torch

from caffe_plain.geometry import convolved


def convolution(x, weight, bias, stride, pad, dilation, transposed, output_padding, group):
    """torch.convolution."""
    steps = Steps(weight.shape[2:], stride, pad, dilation, group)
    if transposed:
        y = steps.spread(x, weight, steps.image_sizes(x.shape[2:]))
    else:
        y = steps.correlate(x, weight)
    return y if bias is None else y + bias.view(-1, *[1] * (y.dim() - 2))


def backward(
    dy, x, weight, bias_sizes, stride, pad, dilation, transposed, output_padding, group, mask
):
    """torch.ops.aten.convolution_backward: the diffs of x, weight and bias that `mask` asks for."""
    steps, dy = Steps(weight.shape[2:], stride, pad, dilation, group), dy.to(x.dtype)
    dx = dweight = dbias = None
    if mask[0]:
        dx = steps.correlate(dy, weight) if transposed else steps.spread(dy, weight, x.shape[2:])
    if mask[1]:
        dweight = steps.weigh(dy, x) if transposed else steps.weigh(x, dy)
    if mask[2]:
        dbias = dy.sum([axis for axis in range(dy.dim()) if axis != 1])
    return dx, dweight, dbias


class Steps:
    """The geometry of a convolution: what lies under each place in its kernel."""

    def __init__(self, kernel, stride, pad, dilation, group):
        self.kernel, self.stride, self.pad = tuple(kernel), stride, pad
        self.dilation, self.group = dilation, group

    def image_sizes(self, sizes):
        """The sizes of the image that a transposed convolution makes from `sizes`."""
        return tuple(
            stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad
            for size, kernel, stride, pad, dilation in zip(
                sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True
            )
        )

    def correlate(self, x, weight):
        """The convolution of x."""
        padded, sizes = self._padded(x), self._output_sizes(x.shape[2:])
        y = sum(
            self._matrix(weight, place) @ self._columns(padded[window])
            for place, window in self._windows(sizes)
        )
        return y.reshape(len(x), weight.shape[0], *sizes)

    def spread(self, dy, weight, sizes):
        """The gradient of an image of `sizes`."""
        padded = dy.new_zeros(
            len(dy),
            weight.shape[1] * self.group,
            *(size + 2 * pad for size, pad in zip(sizes, self.pad, strict=True)),
        )
        columns = self._columns(dy)
        for place, window in self._windows(dy.shape[2:]):
            part = self._matrix(weight, place).transpose(1, 2) @ columns
            padded[window] += part.reshape(padded[window].shape)
        inside = (slice(pad, pad + size) for pad, size in zip(self.pad, sizes, strict=True))
        return padded[(..., *inside)].clone()

    def weigh(self, x, dy):
        """The gradient of the weights."""
        padded, columns = self._padded(x), self._columns(dy)
        parts = [
            torch.einsum("ngop,ngip->goi", columns, self._columns(padded[window]))
            for _, window in self._windows(dy.shape[2:])
        ]
        return torch.stack(parts, -1).reshape(dy.shape[1], -1, *self.kernel)

    def _output_sizes(self, sizes):
        return tuple(map(convolved, sizes, self.kernel, self.stride, self.pad, self.dilation))

    def _padded(self, x):
        return torch.nn.functional.pad(x, [pad for pad in reversed(self.pad) for _ in range(2)])

    def _windows(self, sizes):
        """(place in the kernel, index of the pixels under it in the padded image)."""
        for place in itertools.product(*map(range, self.kernel)):
            yield (
                place,
                (
                    slice(None),
                    slice(None),
                    *(
                        slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
                        for at, dilation, size, stride in zip(
                            place, self.dilation, sizes, self.stride, strict=True
                        )
                    ),
                ),
            )

    def _columns(self, x):
        """(N, group, channels of a group, pixels)."""
        return x.reshape(len(x), self.group, x.shape[1] // self.group, -1)

    def _matrix(self, weight, place):
        """The weights of one place, (group, outputs of a group, inputs of a group)."""
        weight = weight[(slice(None), slice(None), *place)]
        return weight.reshape(self.group, -1, weight.shape[1])
