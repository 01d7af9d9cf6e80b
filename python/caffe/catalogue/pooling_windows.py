"""Pooling over windows: the maximum, the average, or a random pick of each."""

import math

import torch

from caffe_plain.geometry import pooled

from .. import device, kernels

aten = torch.ops.aten


class Windows:
    """Where the windows are; per axis: kernel, stride, pad, sizes of image and output.

    PyTorch's pooling does it all where its rules agree with Caffe's; otherwise the image is padded
    first.
    """

    def __init__(self, kernel, stride, pad, image, sizes, ceil=True):
        self.kernel, self.stride, self.pad = tuple(kernel), tuple(stride), tuple(pad)
        self.image, self.sizes = tuple(image), tuple(sizes)
        axes = list(zip(self.image, self.kernel, self.stride, self.pad, strict=True))
        self.native = self.sizes == tuple(pooled(*axis, ceil, clip=ceil) for axis in axes) and all(
            2 * pad <= size for pad, size in zip(self.pad, self.kernel, strict=True)
        )
        self.rule = (
            (self.kernel, self.stride, self.pad if self.native else (0, 0)),
            self.native and ceil,
        )
        self.margins = [  # left, right, top, bottom
            margin
            for (length, kernel, stride, pad), size in reversed(
                list(zip(axes, self.sizes, strict=True))
            )
            for margin in (pad, max(0, (size - 1) * stride + kernel - length - pad))
        ]

    @property
    def covers_image(self):
        """One window, and it is the image."""
        return self.sizes == (1, 1) and self.kernel == self.image and self.pad == (0, 0)

    def padded(self, x, value):
        return x if self.native else torch.nn.functional.pad(x, self.margins, value=value)

    def unpadded(self, dx):
        if self.native:
            return dx
        left, top = self.margins[0], self.margins[2]
        return dx[:, :, top : top + self.image[0], left : left + self.image[1]]

    def lengths(self, like, axis):
        """How much of each window along an axis lies in the padded image."""
        start = torch.arange(self.sizes[axis], device=like.device) * self.stride[axis]
        end = (start + self.kernel[axis]).clamp(max=self.image[axis] + 2 * self.pad[axis])
        return (end - start).clamp(min=1).to(like.dtype)  # without pad a window may start beyond


class MaxPool:
    """The first of the largest values; `places` says where they lie.

    They are places in the (padded) image, or in the window if one of the engine's kernels found
    them. As in Caffe, NaN does not count; a window without a number above -FLT_MAX gives that, and
    its place is -1, so that it passes nothing down.
    """

    def __init__(self, windows):
        self.windows = windows

    def forward(self, x):
        windows = self.windows
        (kernel, stride, pad), _ = windows.rule
        self.kernels = kernels.pooling(x, kernel) if windows.native else None
        if self.kernels:
            y, self.places = self.kernels.max_pool(x, kernel, stride, pad, windows.sizes)
            return y
        y, self.places = self._in_torch(x, _lowest(x.dtype))
        return y

    def _in_torch(self, x, lowest):
        """What PyTorch, to which NaN is the largest, makes of the numbers in x."""
        waits = x.is_cuda or device.is_recording()  # and so must not look at a value
        if not waits:
            y, places = self._largest(x, lowest)
            if y.numel() == 0 or y.amin() > lowest:  # which is false of NaN
                return y, places
        numbers = torch.nan_to_num(x, nan=lowest, posinf=math.inf, neginf=lowest)
        y, places = self._largest(numbers, lowest)
        return y, places.masked_fill_(y <= lowest, -1)

    def _largest(self, x, lowest):
        (kernel, stride, pad), ceil = self.windows.rule
        padded = self.windows.padded(x, lowest)
        return aten.max_pool2d_with_indices(padded, kernel, stride, pad, (1, 1), ceil)

    def backward(self, dy, x):
        (kernel, stride, pad), ceil = self.windows.rule
        if self.kernels:
            return self.kernels.max_pool_backward(
                device.layout(dy), self.places, kernel, stride, pad, self.windows.image
            )
        return self.windows.unpadded(
            aten.max_pool2d_with_indices_backward(
                dy, self.windows.padded(x, 0), kernel, stride, pad, (1, 1), ceil, self.places
            )
        )

    def mask(self):
        """The places in the image without padding, y W + x, as numbers."""
        places, windows = self.places.long(), self.windows
        found = places >= 0
        if self.kernels:
            places = self._image_places(places)
        elif not windows.native:
            left, right, top, _ = windows.margins
            width = windows.image[1] + left + right
            rows = torch.div(places, width, rounding_mode="floor") - top
            places = rows * windows.image[1] + places % width - left
        places = torch.where(found, places, -1)
        return places.to(device.master_dtype())  # bf16 does not hold every integer beyond 256

    def _image_places(self, places):
        """Places in windows as places in the image."""
        windows = self.windows
        y, x = (
            torch.arange(size, device=places.device) * stride - pad
            for size, stride, pad in zip(windows.sizes, windows.stride, windows.pad, strict=True)
        )
        width = windows.kernel[1]
        rows = y[:, None] + torch.div(places, width, rounding_mode="floor")
        return rows * windows.image[1] + x + places % width


def _lowest(dtype):
    """Caffe's -FLT_MAX, or the nearest value to it."""
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


class AveragePool:
    """The sum divided by the part of the window that lies in the padded image."""

    def __init__(self, windows):
        self.windows = windows

    def forward(self, x):
        windows = self.windows
        if windows.covers_image:
            return x.mean((2, 3), keepdim=True)
        rule, ceil = windows.rule
        own = kernels.pooling(x, windows.kernel) if windows.native else None
        if own:
            return own.average_pool(x, *rule, windows.sizes)
        if windows.native:
            return aten.avg_pool2d(x, *rule, ceil, True)
        return aten.avg_pool2d(windows.padded(x, 0), *rule, ceil, True, 1) / self._areas(x)

    def backward(self, dy, x):
        windows = self.windows
        if windows.covers_image:
            count = windows.image[0] * windows.image[1]
            return torch.empty_like(x).copy_((dy / count).expand(x.shape))
        rule, ceil = windows.rule
        own = kernels.pooling(x, windows.kernel) if windows.native else None
        if own:
            return own.average_pool_backward(device.layout(dy), *rule, windows.image)
        if x.is_cuda and any(rule[2]):
            # wrong there for channels last with padding: github.com/pytorch/pytorch/issues/188344
            return device.layout(
                aten.avg_pool2d_backward(dy.contiguous(), x.contiguous(), *rule, ceil, True, None)
            )
        if windows.native:
            return aten.avg_pool2d_backward(dy, x, *rule, ceil, True, None)
        return windows.unpadded(
            aten.avg_pool2d_backward(
                dy / self._areas(dy), windows.padded(x, 0), *rule, ceil, True, 1
            )
        )

    def _areas(self, like):
        return self.windows.lengths(like, 0)[:, None] * self.windows.lengths(like, 1)


class StochasticPool:
    """One value per window, drawn in proportion to the values (which must not be negative).

    In the TEST phase: the mean of the values, weighted by themselves. Zeiler and Fergus, 2013.
    """

    def __init__(self, windows, training):
        self.windows, self.training = windows, training

    def forward(self, x):
        values, places = self._unfolded(x)
        total = values.cumsum(-1)
        if not self.training:
            return values.square().sum(-1) / total[..., -1].clamp(min=torch.finfo(x.dtype).tiny)
        draw = torch.rand(
            total.shape[:-1] + (1,),
            dtype=x.dtype,
            device=x.device,
            generator=device.generator(x.device.type),
        )
        # the first value whose running sum reaches the drawn share of the window's sum
        pick = (total < draw * total[..., -1:]).sum(-1, keepdim=True)
        self.places = places.expand(values.shape).gather(-1, pick).flatten(2)
        return values.gather(-1, pick).squeeze(-1)

    def backward(self, dy, x):
        dx = dy.new_zeros(x.shape[:2] + (self._padded_size[0] * self._padded_size[1],))
        dx.scatter_add_(2, self.places, dy.reshape(self.places.shape))
        dx = dx.view(x.shape[:2] + self._padded_size)
        return dx[:, :, : x.shape[2], : x.shape[3]]

    def _unfolded(self, x):
        """The values of each window and their places, (N, C, H', W', kernel area)."""
        windows = self.windows
        _, right, _, bottom = windows.margins
        padded = torch.nn.functional.pad(x, (0, right, 0, bottom))
        self._padded_size = tuple(padded.shape[2:])
        places = torch.arange(padded[0, 0].numel(), device=x.device).view(self._padded_size)
        return tuple(
            image.unfold(-2, windows.kernel[0], windows.stride[0])
            .unfold(-2, windows.kernel[1], windows.stride[1])
            .flatten(-2)
            for image in (padded, places)
        )
