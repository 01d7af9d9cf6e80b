"""Vision layers that only move pixels: Im2col, Crop."""

import itertools
import math

import torch

from caffe_plain.geometry import check_positive, convolved, window

from ..layer import TensorLayer, register


@register
class Im2col(TensorLayer):
    """Every window that a convolution would see, as the channels of one pixel.

    bottom: (N, C, H, W); top: (N, C kernel_h kernel_w, H', W') with the sizes of Convolution.
    Any number of spatial axes; those before `axis` are batch axes. Options: convolution_param.
    Caffe's Im2colLayer.
    """

    param_name = "convolution_param"
    reads_bottom = False

    def setup(self, *shapes):
        options, shape = self.options, shapes[0]
        self.axis = self.canonical_axis(options.axis, shape)
        axes = len(shape) - self.axis - 1
        if axes < 1:
            raise self.error(
                f"bottom {tuple(shape)} has no spatial axes after channel axis {self.axis}"
            )
        self.window = window(options, axes, self.error)
        self.kernel, self.stride, self.pad, self.dilation = self.window
        check_positive(
            self.error, kernel_size=self.kernel, stride=self.stride, dilation=self.dilation
        )

    def reshape(self, *shapes):
        shape, axis = tuple(shapes[0]), self.axis
        axes = zip(shape[axis + 1 :], *self.window, strict=True)
        self.sizes = tuple(convolved(*geometry) for geometry in axes)
        if min(self.sizes) <= 0:
            raise self.shape_error(
                f"kernel {self.kernel} with pad {self.pad} does not fit into "
                f"the bottom {shape}: the output would be {self.sizes}"
            )
        return [shape[:axis] + (shape[axis] * math.prod(self.kernel),) + self.sizes]

    def forward(self, x):
        margins = [pad for pad in reversed(self.pad) for _ in range(2)]
        padded = torch.nn.functional.pad(x, margins)
        pixels = [padded[pixels] for pixels in self._windows()]
        return torch.stack(pixels, self.axis + 1).flatten(self.axis, self.axis + 1)

    def backward(self, diffs, bottoms, tops, wanted):
        dy, shape, axis = diffs[0], bottoms[0].shape, self.axis
        padded = dy.new_zeros(
            shape[: axis + 1]
            + tuple(size + 2 * pad for size, pad in zip(shape[axis + 1 :], self.pad, strict=True))
        )
        parts = dy.unflatten(axis, (shape[axis], math.prod(self.kernel))).unbind(axis + 1)
        for pixels, part in zip(self._windows(), parts, strict=True):
            padded[pixels] += part
        inside = tuple(
            slice(pad, pad + size) for size, pad in zip(shape[axis + 1 :], self.pad, strict=True)
        )
        return [padded[(..., *inside)].clone()]

    def _windows(self):
        """For each place in the kernel, the index of its pixels in the padded image."""
        for place in itertools.product(*map(range, self.kernel)):
            yield (...,) + tuple(
                slice(offset * dilation, offset * dilation + (size - 1) * stride + 1, stride)
                for offset, dilation, size, stride in zip(
                    place, self.dilation, self.sizes, self.stride, strict=True
                )
            )


@register
class Crop(TensorLayer):
    """The part of bottom 0 that has the size of bottom 1.

    bottom 0, 1: equally many axes; top: the sizes of bottom 0 before `axis` (default 2), from
    there on those of bottom 1, beginning at `offset` (one for all axes or one each; default 0).
    Options: crop_param. Caffe's CropLayer.
    """

    bottom_count = (2, 2)
    param_name = "crop_param"
    reads_bottom = False

    def reshape(self, *shapes):
        image, wanted = map(tuple, shapes)
        if len(image) != len(wanted):
            raise self.shape_error(
                f"the bottoms need equally many axes; found {image} and {wanted}"
            )
        axis = self.canonical_axis(self.options.axis, image)
        offsets, count = list(self.options.offset) or [0], len(image) - axis
        if len(offsets) not in (1, count):
            raise self.error(
                f"offset has {len(offsets)} values for {count} cropped axes; give "
                "one for all or one each"
            )
        offsets = offsets if len(offsets) == count else offsets * count
        for i, (size, part, offset) in enumerate(
            zip(image[axis:], wanted[axis:], offsets, strict=True)
        ):
            if offset + part > size:
                raise self.shape_error(
                    f"axis {axis + i}: {part} values from offset {offset} do "
                    f"not fit into the {size} of bottom 0 {image}"
                )
        self.window = (slice(None),) * axis + tuple(
            slice(offset, offset + part)
            for offset, part in zip(offsets, wanted[axis:], strict=True)
        )
        return [image[:axis] + wanted[axis:]]

    def forward(self, image, reference):
        return image[self.window].clone()

    def backward(self, diffs, bottoms, tops, wanted):
        """Bottom 1 gets nothing: only its size matters."""
        if not wanted[0]:
            return [None, None]
        dx = torch.zeros_like(bottoms[0])
        dx[self.window] = diffs[0]
        return [dx, None]
