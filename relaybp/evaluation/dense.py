"""A net for images of any size: its scores at every position, its fc layers as convolutions.

The net is cut in two at the map below its first layer that asks for one size (fully connected,
global pooling, pyramid). The lower part runs on the whole image; the upper part on every window of
the map that is as large as the map of the training crop, which is what a convolution with the fc
layer's weights computes. This works for pyramids too.
"""

import os
import tempfile

import numpy as np

from caffe_plain.phases import TEST, layers_of, state_of

from ..errors import RelayError
from ..run_folder import write

ONE_SIZE = ("InnerProduct", "Flatten", "SPP", "Reshape")
WINDOWS = 32  # that run through the upper part at a time


class Dense:
    """The scores of a trained net, averaged over the positions of an image.

    net_param: NetParameter with data and loss layers; crop: side of the training crop in pixels;
    loss: the loss layer whose scores are wanted, by default the last one.
    """

    def __init__(self, caffe, net_param, weights, crop, loss=None, step=1):
        pb = caffe.proto.caffe_pb2
        layers, scores = prediction_layers(pb, net_param, loss)
        at, self.cut = cut(layers, scores)
        self.crop, self.step, self.data = crop, step, layers[0].bottom[0]
        self.lower = _net(caffe, layers[:at], self.data, (1, 3, crop, crop), weights)
        self.window = tuple(self.lower.blobs[self.cut].shape)[1:]
        upper = [
            *layers[at:],
            pb.LayerParameter(name="prob", type="Softmax", bottom=[scores], top=["prob"]),
        ]
        self.upper = _net(caffe, upper, self.cut, (1, *self.window), weights)

    def scores(self, image):
        """The mean of the softmax scores over all positions: image (3, H, W) to (classes,)."""
        if min(image.shape[1:]) < self.crop:
            raise RelayError(
                f"an image of {image.shape[1]} x {image.shape[2]} pixels; the net was "
                f"trained on {self.crop} x {self.crop}: choose larger scales"
            )
        self.lower.blobs[self.data].reshape(1, *image.shape)
        self.lower.reshape()
        self.lower.blobs[self.data].data[...] = image
        self.lower._forward(0, len(self.lower.layers) - 1)
        maps = np.array(self.lower.blobs[self.cut].data[0])  # (C, H, W)
        places = windows(maps, self.window[1:], self.step)  # (positions, C, h, w)
        total = sum(
            self._upper(places[at : at + WINDOWS]).sum(0) for at in range(0, len(places), WINDOWS)
        )
        return total / len(places)

    def _upper(self, batch):
        self.upper.blobs[self.cut].reshape(*batch.shape)
        self.upper.reshape()
        self.upper.blobs[self.cut].data[...] = batch
        self.upper._forward(0, len(self.upper.layers) - 1)
        scores = np.array(self.upper.blobs["prob"].data, np.float64)
        return scores.reshape(len(batch), -1)


def windows(maps, size, step):
    """Every `size` window of maps (C, H, W), `step` apart: (positions, C, height, width)."""
    found = np.lib.stride_tricks.as_strided(
        maps,
        (maps.shape[1] - size[0] + 1, maps.shape[2] - size[1] + 1, maps.shape[0], *size),
        (*maps.strides[1:], maps.strides[0], *maps.strides[1:]),
        writeable=False,
    )
    return found[::step, ::step].reshape(-1, maps.shape[0], *size)


def prediction_layers(pb, net_param, loss=None):
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


def cut(layers, scores):
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


def _net(caffe, layers, data, shape, weights):
    """A TEST net of the layers over an Input, with weights by their names."""
    pb = caffe.proto.caffe_pb2
    param = pb.NetParameter(name="dense")
    source = param.layer.add(name=data + "_input", type="Input", top=[data])
    source.input_param.shape.add(dim=shape)
    param.layer.extend(layers)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        write(path, param)
        return caffe.Net(path, caffe.TEST, weights=weights)
