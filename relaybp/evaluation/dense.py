"""A net for images of any size: its scores at every position, its fc layers as convolutions.

The net is cut in two at the map below its first layer that asks for one size (fully connected,
global pooling, pyramid). The lower part runs on the whole image; the upper part on every window of
the map that is as large as the map of the training crop, which is what a convolution with the fc
layer's weights computes. This works for pyramids too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_plain.phases import TEST, layers_of, state_of

from ..errors import RelayError
from ..run_folder import write

ONE_SIZE = ("InnerProduct", "Flatten", "SPP", "Reshape")
WINDOWS = 64  # that run through the upper part at a time
PROB = "prob"  # the blob of softmax scores


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


def prediction_layers(pb: Any, net_param: Any, loss: str | None = None) -> tuple[list[Any], str]:
    """(the TEST layers from the data to a loss's scores, the scores' blob)."""
    present = layers_of(net_param, state_of(net_param, TEST))
    losses = [
        layer
        for layer in present
        if layer.type == "SoftmaxWithLoss" and (loss is None or layer.name == loss)
    ]
    if not losses:
        raise RelayError(
            f"net {net_param.name!r}: no SoftmaxWithLoss layer {loss or ''} to take the scores of"
        )
    scores = losses[-1].bottom[0]
    needed, found = {scores}, []
    for layer in reversed(present[: present.index(losses[-1])]):
        if layer.bottom and needed.intersection(layer.top):
            needed.update(layer.bottom)
            found.append(pb.LayerParameter())
            found[-1].CopyFrom(layer)
            del found[-1].include[:], found[-1].exclude[:]
    return found[::-1], scores


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


def net_of(
    caffe: Any, layers: Sequence[Any], data: str, shape: tuple[int, ...], weights: str | None
) -> Any:
    """A TEST net of the layers over an Input `data` of that shape, with weights by their names."""
    pb = caffe.proto.caffe_pb2
    source = pb.LayerParameter(name=data + "_input", type="Input", top=[data])
    source.input_param.shape.add(dim=shape)
    return build(caffe, [source, *layers], weights)


def build(caffe: Any, layers: Sequence[Any], weights: str | None) -> Any:
    """A TEST net of the layers, with weights by their names."""
    param = caffe.proto.caffe_pb2.NetParameter(name="evaluation")
    param.layer.extend(layers)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        write(path, param)
        return caffe.Net(path, caffe.TEST, weights=weights)


def softmax_of(pb: Any, scores: str) -> Any:
    """The layer that makes the blob PROB from `scores`."""
    return pb.LayerParameter(name=PROB, type="Softmax", bottom=[scores], top=[PROB])


def run(net: Any, data: str, values: np.ndarray, top: str) -> np.ndarray:
    """What a net of `net_of` makes of the values of its input, a copy of the blob `top`."""
    net.blobs[data].reshape(*values.shape)
    net.reshape()
    net.blobs[data].data[...] = values
    net._forward(0, len(net.layers) - 1)
    return np.array(net.blobs[top].data)
