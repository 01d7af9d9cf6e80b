"""A net for images of any size: its scores at every position, its fc layers as convolutions.

The net is cut in two at the map below its first layer that asks for one size (fully connected,
global pooling, pyramid). The lower part runs on the whole image; the upper part on every window of
the map that is as large as the map of the training crop, which is what a convolution with the fc
layer's weights computes. This works for pyramids too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RelayError
from .nets import PROB, net_of, prediction_layers, run, softmax_of

ONE_SIZE = ("InnerProduct", "Flatten", "SPP", "Reshape")
WINDOWS = 64  # that run through the upper part at a time


class Dense:
    """The scores of a trained net, averaged over the positions of an image.

    net_param: NetParameter with data and loss layers; crop: (C, H, W) of what the net was trained
    on; loss: the loss layer whose scores are wanted, by default the last one; step: between
    positions on the map.
    """

    def __init__(
        self,
        caffe: Any,
        net_param: Any,
        weights: str,
        crop: tuple[int, int, int],
        loss: str | None = None,
        step: int = 1,
    ) -> None:
        layers, scores = prediction_layers(caffe.proto.caffe_pb2, net_param, loss)
        at, self.cut = cut(layers, scores)
        self.crop, self.step, self.data = crop, step, layers[0].bottom[0]
        self.lower = net_of(caffe, layers[:at], self.data, (1, *crop), weights)
        self.window = tuple(self.lower.blobs[self.cut].shape)[1:]
        upper = [*layers[at:], softmax_of(caffe.proto.caffe_pb2, scores)]
        self.upper = net_of(caffe, upper, self.cut, (1, *self.window), weights)
        self.classes = self.upper.blobs[PROB].data.size

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The mean of the softmax over all positions: images (N, C, H, W) to (N, classes)."""
        if images.shape[2] < self.crop[1] or images.shape[3] < self.crop[2]:
            raise RelayError(
                "an image of {} x {} pixels; the net was trained on {} x {}: choose larger "
                "scales".format(*images.shape[2:], *self.crop[1:])
            )
        maps = run(self.lower, self.data, images, self.cut)  # (N, C, H, W)
        places = windows(maps, self.window[1:], self.step)  # (N, rows, columns, C, h, w)
        positions = places.shape[1] * places.shape[2]
        total = np.zeros((len(images), self.classes))
        for first in range(0, len(images) * positions, WINDOWS):
            numbers = np.arange(first, min(first + WINDOWS, len(images) * positions))
            at = np.unravel_index(numbers, places.shape[:3])
            scores = run(self.upper, self.cut, places[at], PROB)
            np.add.at(total, at[0], scores.reshape(len(scores), -1))
        return total / positions


def windows(maps: np.ndarray, size: tuple[int, int], step: int) -> np.ndarray:
    """Every `size` window of maps (N, C, H, W), `step` apart: (N, rows, columns, C, h, w)."""
    images, channels, height, width = maps.shape
    across = (images, height - size[0] + 1, width - size[1] + 1)
    of_image, of_channel, of_row, of_column = maps.strides
    views = np.lib.stride_tricks.as_strided(
        maps,
        (*across, channels, *size),
        (of_image, of_row, of_column, of_channel, of_row, of_column),
        writeable=False,
    )
    return views[:, ::step, ::step]


def cut(layers: Sequence[Any], scores: str) -> tuple[int, str]:
    """(index of the first layer of the upper part, the one blob that it takes from the lower)."""
    first = next(
        (
            index
            for index, layer in enumerate(layers)
            if layer.type in ONE_SIZE or layer.pooling_param.global_pooling
        ),
        None,
    )
    if first is None:
        raise RelayError(
            f"no layer below {scores!r} asks for one size ({', '.join(ONE_SIZE)}, "
            "global pooling): the net takes images of any size as it is"
        )
    for index in range(first, 0, -1):
        made = {blob for layer in layers[:index] for blob in layer.top}
        taken = made.intersection(*[{blob for layer in layers[index:] for blob in layer.bottom}])
        if len(taken) == 1:
            return index, taken.pop()
    raise RelayError(
        f"layer {layers[first].name!r} asks for one size, and below it the net never "
        "is a single map"
    )
