"""Inside the trained net: its first filters, what they and later layers make of an image, and
which pixels decide."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from caffe_plain.errors import DataError
from caffe_plain.snapshots import newest_weights

from ..errors import RelayError
from ..evaluation.crops import centre
from ..evaluation.nets import net_of, prediction_layers
from ..evaluation.protocol import Protocol
from ..evaluation.scoring import parts_of, softmax
from ..evaluation.validation_set import Feed, Stored, record_names, stored, test_feed
from ..pictures import heat, sheet, spanned, tiles
from .outcome import choose, example
from .pixels import data_uri, photo
from .source import Source

FILTERS, CHANNELS, COLUMNS = 96, 16, 8  # of a sheet, at most
LOOKED_AT = 3  # images, right and wrong, whose saliency is shown


def examples(source: Source) -> dict[str, Any]:
    """{"right", "wrong": images with the likeliest classes}."""
    result = source.result
    found = {}
    for how, right in (("right", True), ("wrong", False)):
        chosen = choose(result, right)
        found[how] = [
            {**example(result, index), "image": photo(image.for_people)}
            for index, image in zip(chosen, _tested(source, chosen))
        ]
    return {**found, "protocol": result.protocol, "weights": result.weights.get("file", "")}


def _tested(source: Source, indices: list[int]) -> list[Stored]:
    """Some of the images that were tested, by their numbers."""
    result = source.result
    database = result.data["source"]
    if not os.path.exists(database):
        raise RelayError(f"{database}, of which the tested images are, is not there any more")
    return stored(source.engine.caffe, database, [result.names[index] for index in indices])


class Looker:
    """A run's net with its newest weights, whose values and gradients are read.

    feed: how images become data.
    """

    def __init__(self, source: Source) -> None:
        self.engine, self.weights = source.engine, _newest(source.folder)
        self.net_param = source.net
        self.feed: Feed = test_feed(self.net_param)
        self.layers, self.scores = prediction_layers(source.engine.pb, self.net_param)

    def net(self, shape: tuple[int, ...]) -> Any:
        """The net up to the scores, for data (N, C, H, W)."""
        data = self.feed.layer.top[0]
        return net_of(self.engine.caffe, self.layers, data, shape, self.weights, to_data=True)

    def data(self, image: Stored) -> np.ndarray:
        """The centre crop (1, C, H, W) of an image, normalised."""
        cut = parts_of(Protocol(), self.feed, self.engine.caffe)
        return cut(image.image)[0][np.newaxis].astype(np.float32)

    def seen(self, image: Stored) -> np.ndarray:
        """The centre crop (H, W, 3) of an image in RGB, for people."""
        return centre(image.for_people, self.feed.crop)[0]


def _newest(folder: str) -> str:
    try:
        return newest_weights(folder)
    except DataError:
        raise RelayError(
            f"no weights in {folder} yet: one comes every `snapshot` iterations, or at the end"
        ) from None


def filters(source: Source) -> dict[str, Any]:
    """The weights of the first convolution as one picture.

    Raises RelayError where there are no weights, or no convolution reads the images.
    """
    looker = Looker(source)
    image = first_image(source, looker)
    net = looker.net(looker.data(image).shape)
    name = first_convolution(looker)
    weights = np.asarray(net.params[name][0].data, np.float64)  # (N, C, h, w)
    count, channels = weights.shape[:2]
    size = "x".join(map(str, weights.shape[2:]))
    of = "in colour" if channels == 3 else f"the mean of {channels} channels"
    return {
        "layer": name,
        "text": f"{count} filters of {size}, {of}; each from its least weight to its greatest",
        "image": data_uri(sheet(tiles(weights[:FILTERS], image.is_rgb), COLUMNS * 2)),
    }


def first_image(source: Source, looker: Looker) -> Stored:
    """The first image of the validation database."""
    database = looker.feed.source
    return stored(source.engine.caffe, database, record_names(database, 1))[0]


def first_convolution(looker: Looker) -> str:
    """The convolution that reads the images."""
    data = looker.feed.layer.top[0]
    for layer in looker.layers:
        if layer.type == "Convolution" and data in layer.bottom:
            return layer.name
    raise RelayError("no convolution reads the images themselves: there are no filters to show")


def responses(source: Source) -> dict[str, Any]:
    """Of some images which pixels decide, and of the first the maps of layers on the way up."""
    result, looker = source.result, Looker(source)
    chosen = choose(result, True, LOOKED_AT) + choose(result, False, LOOKED_AT)
    images = _tested(source, chosen)
    net = looker.net(looker.data(images[0]).shape)
    with source.engine.looking_inside(net):
        looks = [look(net, looker, image) for image in images]
        look(net, looker, images[0])
        maps = activations(net, looker)
    for index, image, found in zip(chosen, images, looks):
        found["class"] = result.class_name(int(result.labels[index]))
        found["predicted"] = result.class_name(found["predicted"])
        found["image"] = photo(looker.seen(image))
    return {"weights": os.path.basename(looker.weights), "activations": maps, "saliency": looks}


def look(net: Any, looker: Looker, image: Stored) -> dict[str, Any]:
    """{"predicted": a label, "score": in %, "heat": a picture of the saliency} of an image."""
    scores, gradient = scores_and_gradient(net, looker, looker.data(image))
    return {
        "predicted": int(scores.argmax()),
        "score": 100 * float(softmax(scores[np.newaxis]).max()),
        "heat": data_uri(heat(saliency(gradient))),
    }


def scores_and_gradient(
    net: Any, looker: Looker, data: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of data (1, C, H, W): all scores (classes,), and the gradient of the highest (C, H, W)."""
    name = looker.feed.layer.top[0]
    net.blobs[name].reshape(*data.shape)
    net.blobs[name].data[...] = data
    net.forward()
    blob = net.blobs[looker.scores]
    scores = np.array(blob.data, np.float64).ravel()
    wanted = np.zeros(scores.size)
    wanted[scores.argmax()] = 1
    blob.diff[...] = wanted.reshape(blob.shape)
    net._backward(len(net.layers) - 1, 0)
    return scores, np.array(net.blobs[name].diff[0])


def saliency(gradient: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W): the greatest absolute value of the channels, from 0 to 1.

    What exceeds 99 % of the pixels is as bright as can be: a few pixels would darken all others.
    """
    strength = np.abs(gradient).max(0)
    return np.clip(strength / (np.percentile(strength, 99) or 1.0), 0, 1)


def activations(net: Any, looker: Looker) -> list[dict[str, Any]]:
    """Of the first image, at the first layer and the last of each size of map, some channels."""
    last: dict[tuple[int, ...], str] = {}
    tops = [layer.top[0] for layer in looker.layers]
    for name in tops:
        shape = tuple(net.blobs[name].shape)
        if len(shape) == 4 and min(shape[2:]) > 1:
            last[shape[2:]] = name
    return [_sheet(net, name) for name in dict.fromkeys([tops[0], *last.values()])]


def _sheet(net: Any, name: str) -> dict[str, Any]:
    maps = np.array(net.blobs[name].data[0], np.float64)  # (C, H, W)
    strongest = np.argsort(-np.abs(maps).mean((1, 2)), kind="stable")[:CHANNELS]
    found = np.stack([heat(spanned(maps[channel])) for channel in np.sort(strongest)])
    shape = "x".join(map(str, maps.shape))
    return {
        "blob": name,
        "text": f"{shape}, the {len(found)} strongest channels",
        "image": data_uri(sheet(found, COLUMNS)),
    }
