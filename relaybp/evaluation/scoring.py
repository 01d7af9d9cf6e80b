"""The class scores that a protocol gives to the images of a database, or to any others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Callable, Union

import numpy as np

from ..errors import RelayError
from .crops import CUTS
from .dense import PROB, Dense, build, net_of, prediction_layers, run, softmax_of
from .progress import Progress
from .protocol import CROP, DENSE, Protocol
from .validation_set import Feed, Normaliser, Record, feed_of, read, resized

PENDING_BYTES = 1 << 28  # of parts of images that wait for others of their size


class Crops:
    """The scores of a trained net, of images as large as its crop, (C, H, W)."""

    def __init__(
        self, caffe: Any, net_param: Any, weights: str, crop: tuple[int, ...], loss: str | None
    ) -> None:
        pb = caffe.proto.caffe_pb2
        layers, scores = prediction_layers(pb, net_param, loss)
        self.data = layers[0].bottom[0]
        layers.append(softmax_of(pb, scores))
        self.net = net_of(caffe, layers, self.data, (1, *crop), weights)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The softmax: images (N, C, H, W) to (N, classes)."""
        return run(self.net, self.data, images, PROB).reshape(len(images), -1)


Scorer = Union[Dense, Crops]


def score_database(
    caffe: Any, net_param: Any, weights: str, protocol: Protocol, images: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """(scores (N, classes), labels (N,)) of the first N = `images` records of the TEST phase.

    what: what the progress names.
    """
    if protocol.kind == CROP:
        return _test_phase(caffe, net_param, weights, protocol, images, what)
    records = islice(read(caffe, feed_of(net_param).source), images)
    return score_images(caffe, net_param, weights, protocol, records, images, what)


def score_images(
    caffe: Any,
    net_param: Any,
    weights: str,
    protocol: Protocol,
    records: Iterable[Record],
    images: int,
    what: str,
) -> tuple[np.ndarray, np.ndarray]:
    """(scores (N, classes), labels (N,)) of N = `images` records that are as the database's."""
    feed, records = feed_of(net_param), iter(records)
    first = next(records)
    shape = _crop_shape(feed, first.image)
    if protocol.kind == DENSE:
        net: Scorer = Dense(caffe, net_param, weights, shape, protocol.loss, protocol.step)
    else:
        net = Crops(caffe, net_param, weights, shape, protocol.loss)
    parts = parts_of(protocol, feed, Normaliser(caffe, feed))
    groups, labels = Groups(net, images, feed.batch_size * shape[1] * shape[2], what), []
    for index, record in enumerate(chain([first], records)):
        labels.append(record.label)
        of_image = parts(record.image)
        for part in of_image:
            groups.add(index, part, 1 / len(of_image))
    return groups.finish(), np.array(labels)


def parts_of(
    protocol: Protocol, feed: Feed, normalise: Normaliser
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """What turns an image (H, W, C) into all its parts (C, h, w) that are tested, normalised."""
    if protocol.kind != CROP and protocol.kind != DENSE and not feed.crop:
        raise RelayError(
            f"protocol {protocol.kind}: layer {feed.layer.name!r} has no crop_size; this net sees "
            "whole images: test them with the protocol crop, or with dense"
        )

    def scaled(image: np.ndarray) -> list[np.ndarray]:
        return [normalise.by_channel(resized(image, side)) for side in protocol.short_sides]

    def cropped(image: np.ndarray) -> list[np.ndarray]:
        cut = CUTS[protocol.kind]
        if normalise.fits(image):  # each pixel has its mean before the crop moves it
            return cut(normalise(image), feed.crop)
        return [normalise(part) for part in cut(image, feed.crop)]

    make = scaled if protocol.kind == DENSE else cropped
    return lambda image: [part.transpose(2, 0, 1) for part in make(image)]


class Groups:
    """Runs parts of images in batches of one size and averages the scores of each image.

    pixels: of a batch, at most; a part that is larger makes one alone.
    """

    def __init__(self, net: Scorer, images: int, pixels: int, what: str) -> None:
        self.net, self.images, self.pixels = net, images, pixels
        self.progress = Progress(what, images)
        self._waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray, float]]] = {}
        self._bytes = 0
        self._totals: np.ndarray | None = None  # (N, classes)

    def add(self, index: int, part: np.ndarray, share: float) -> None:
        """Let a part (C, h, w) of image `index` count with that share."""
        group = self._waiting.setdefault(part.shape, [])
        group.append((index, part, share))
        self._bytes += part.nbytes
        if len(group) >= self.pixels // (part.shape[1] * part.shape[2]):
            self._run(part.shape)
        elif self._bytes > PENDING_BYTES:
            self._run(max(self._waiting, key=lambda shape: len(self._waiting[shape])))

    def finish(self) -> np.ndarray:
        """The scores (N, classes)."""
        for shape in list(self._waiting):
            self._run(shape)
        self.progress.close()
        assert self._totals is not None
        return self._totals

    def _run(self, shape: tuple[int, ...]) -> None:
        indices, parts, shares = zip(*self._waiting.pop(shape))
        scores = self.net.scores(np.stack(parts)) * np.array(shares)[:, None]
        self._bytes -= sum(part.nbytes for part in parts)
        if self._totals is None:
            self._totals = np.zeros((self.images, scores.shape[1]))
        np.add.at(self._totals, list(indices), scores)
        self.progress.count(sum(shares))


def _test_phase(
    caffe: Any, net_param: Any, weights: str, protocol: Protocol, images: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """As score_database, through the data layer itself."""
    feed = feed_of(net_param)
    layers, scores = prediction_layers(caffe.proto.caffe_pb2, net_param, protocol.loss)
    data = caffe.proto.caffe_pb2.LayerParameter()
    data.CopyFrom(feed.layer)
    del data.include[:], data.exclude[:]
    net = build(caffe, [data, *layers], weights)
    found, labels, progress = [], [], Progress(what, images)
    for done in range(0, images, feed.batch_size):
        new = min(feed.batch_size, images - done)  # the last batch goes on with the first records
        net._forward(0, len(net.layers) - 1)
        found.append(softmax(np.array(net.blobs[scores].data[:new], np.float64)))
        labels.append(np.array(net.blobs[feed.layer.top[1]].data[:new]).astype(int))
        progress.count(new)
    progress.close()
    return np.concatenate(found), np.concatenate(labels)


def softmax(scores: np.ndarray) -> np.ndarray:
    """The softmax of each row of (N, classes, ...)."""
    scores = scores.reshape(len(scores), -1)
    with np.errstate(invalid="ignore"):  # what is not finite is refused with the results
        exponentials = np.exp(scores - scores.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def _crop_shape(feed: Feed, image: np.ndarray) -> tuple[int, int, int]:
    """(C, H, W) of what the net was trained on; image: one of the database."""
    height, width, channels = image.shape
    return (channels, feed.crop, feed.crop) if feed.crop else (channels, height, width)
