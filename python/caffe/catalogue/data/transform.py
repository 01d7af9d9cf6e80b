"""Caffe's DataTransformer: crop, mirror, mean and scale, drawn per record, computed per batch."""

import numpy as np
import torch

from caffe_plain.errors import CaffeError, DataError, LayerError

from ... import device
from ...files.weights import read_blob
from .source import precision_of

FORCE_COLOR = (  # what helps where some images are gray
    "give the layer transform_param { force_color: true } (and compute_image_mean --force_color), "
    "or convert the images again without -encoded"
)


class DataTransformer:
    """What a layer's transform_param asks for: y = (x - mean) * scale of a crop, mirrored or not.

    `cut` runs in the reader's thread and leaves pixels uint8; `finish` converts a batch to floats
    on the net's device. A crop is random in the TRAIN phase and central in TEST; `mirror` mirrors
    each record with probability 1/2 in both. The mean image is cut as the record is.
    """

    def __init__(self, layer, force_color=False):
        options = layer.layer_param.transform_param
        self.where = f"layer {layer.name!r} ({layer.type})"
        self.crop, self.mirror, self.scale = self._read_crop(options), options.mirror, options.scale
        self.random_crop = bool(self.crop) and layer.training
        if options.force_gray and (options.force_color or force_color):
            raise LayerError(
                f"{self.where}: force_color and force_gray exclude each other; give one"
            )
        # as decode_datum takes it: True: three channels, False: one, None: those of the image
        self.color = (
            True if options.force_color or force_color else (False if options.force_gray else None)
        )
        self.mean = self._read_mean(options)
        self._placed = None  # the mean on the device

    def _read_crop(self, options):
        """The height and width of a crop, or None; crop_h and crop_w are those of SSD's fork."""
        sides = (options.crop_h, options.crop_w)
        if (options.crop_size and any(sides)) or (any(sides) and not all(sides)):
            raise LayerError(
                f"{self.where}: give crop_size, or both crop_h and crop_w; found {sides}"
            )
        return sides if all(sides) else (options.crop_size,) * 2 if options.crop_size else None

    def _read_mean(self, options):
        """The mean image (C, H, W), the mean values (C or 1, 1, 1), or None."""
        if options.mean_file and options.mean_value:
            raise LayerError(f"{self.where}: mean_file and mean_value exclude each other; give one")
        if options.mean_value:
            return np.array(options.mean_value, np.float32).reshape(-1, 1, 1)
        if not options.mean_file:
            return None
        try:
            mean = read_blob(options.mean_file)
        except CaffeError as error:
            raise DataError(
                f"{self.where}: mean_file: {error}; make it with compute_image_mean"
            ) from error
        if mean.ndim < 3 or mean.size != np.prod(mean.shape[-3:]):
            raise DataError(
                f"{self.where}: mean_file {options.mean_file} must hold one image "
                f"(C, H, W); found shape {mean.shape}"
            )
        return mean.reshape(mean.shape[-3:])

    def shape(self, shape, name):
        """The shape that a record of `shape` (C, H, W) gets; an error names it by `name`."""
        channels, height, width = shape
        if self.mean is not None:
            per_pixel = self.mean.shape[1:] != (1, 1)
            if (
                self.mean.shape != tuple(shape)
                if per_pixel
                else (self.mean.shape[0] not in (1, channels))
            ):
                raise DataError(
                    f"{self.where}: {name} has (channels, height, width) {tuple(shape)}, the mean "
                    f"{self.mean.shape if per_pixel else self.mean.shape[0]}; "
                    + _cure(self.mean.shape, channels)
                )
        if not self.crop:
            return tuple(shape)
        if height < self.crop[0] or width < self.crop[1]:
            size = self.crop[0] if self.crop[0] == self.crop[1] else self.crop
            raise DataError(
                f"{self.where}: {name} has height and width {height} x {width}; "
                f"crop_size {size} must fit into it"
            )
        return (channels, *self.crop)

    def cut(self, pixels, draw):
        """The view of `pixels` (C, H, W) that `draw` (three numbers in [0, 1)) chooses.

        Also returns its place in the mean: (mirrored, top, left). The view is not mirrored yet; the
        code that stacks the batch does that.
        """
        height, width = pixels.shape[1:]
        mirrored = self.mirror and draw[0] < 0.5
        top = left = 0
        if self.crop:
            room = (height - self.crop[0], width - self.crop[1])
            if self.random_crop:
                top, left = int(draw[1] * (room[0] + 1)), int(draw[2] * (room[1] + 1))
            else:
                top, left = room[0] // 2, room[1] // 2
            pixels = pixels[:, top : top + self.crop[0], left : left + self.crop[1]]
        if mirrored:  # the mean is mirrored as a whole
            left = width - pixels.shape[2] - left
        return pixels, (int(mirrored), top, left)

    def finish(self, pixels, places):
        """The floats of a batch of cut records (N, C, H, W), on the device."""
        values = device.upload(pixels).to(device.master_dtype())
        if self.mean is not None:
            self._subtract_mean(values, places)
        if self.scale != 1:
            values.mul_(self.scale)
        return device.layout(values.to(precision_of(values.shape)))

    def _subtract_mean(self, values, places):
        """Subtract from `values` (N, C, h, w) the parts of the mean that belong to `places`."""
        if self._placed is None or self._placed.device != device.current():
            self._placed = self._place_mean(*values.shape[1:]).to(device.current())
        if self._placed.dim() == 1:
            # channels last: rows of w * C values, because C values a pixel take four times as long
            values.permute(0, 2, 3, 1).flatten(2).sub_(self._placed)
            return
        if not self.mirror and not self.random_crop:
            places = places[:1]
        at = device.upload(places).T
        values.sub_(self._placed[at[0], at[1], at[2]].permute(0, 3, 1, 2))  # (N or 1, C, h, w)

    def _place_mean(self, channels, *size):
        """Mean values for a row of pixels; of a mean image, a view of each window of `size`."""
        mean = torch.from_numpy(self.mean)
        if self.mean.shape[1:] == (1, 1):
            return mean.flatten().expand(channels).repeat(size[1])
        mean = mean.permute(1, 2, 0)
        both = torch.stack([mean, mean.flip(1)]).to(device.current())  # (2, H, W, C)
        windows = both.unfold(1, size[0], 1).unfold(2, size[1], 1)
        return windows.permute(0, 1, 2, 4, 5, 3)  # (mirrored, top, left, h, w, C)


def _cure(mean, channels):
    """What helps where a mean of shape (C, H, W) does not go with a record of `channels`."""
    if mean[1:] == (1, 1):
        return "give one mean_value, or one per channel"
    if mean[0] != channels:
        return FORCE_COLOR
    return "make the mean of records of this size, or give mean_value"
