"""The class scores that a protocol gives to the images of a database, or to any others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Callable

import numpy as np

from ..data_layers import DataLayer, feed_of
from ..errors import RelayError
from ..progress import Progress
from .crops import CUTS
from .dense import Dense
from .nets import PROB, build, net_of, prediction_layers, run, softmax_of
from .normaliser import Normaliser
from .protocol import CROP, DENSE, Protocol
from .validation_set import Feed, Record, read, resized, test_feed

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


class Tester:
    """Gives the scores of a run's net by a protocol; `title` is what the progress shows."""

    def __init__(
        self, caffe: Any, net_param: Any, weights: str, protocol: Protocol, title: str
    ) -> None:
        self.caffe, self.net_param, self.weights = caffe, net_param, weights
        self.protocol, self.title = protocol, title
        self.feed = test_feed(net_param)

    def score_database(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores (N, classes), labels (N,)) of the first N = `images` records of the database."""
        if self.protocol.kind == CROP:
            return self._run_test_phase(images)
        return self.score(
            islice(read(self.caffe, self.feed.source, self.feed.decoding), images), images
        )

    def score(self, records: Iterable[Record], images: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores (N, classes), labels (N,)) of N = `images` records like the database's."""
        records = iter(records)
        first = next(records)
        height, width, channels = first.image.shape
        crop = self.feed.crop
        shape = (channels, crop, crop) if crop else (channels, height, width)
        net, parts = self._net(shape), parts_of(self.protocol, self.feed, self.caffe)
        pixels, labels = self.feed.batch_size * shape[1] * shape[2], []
        with Progress(self.title, images) as progress:
            groups = Groups(net, images, pixels, progress)
            for index, record in enumerate(chain([first], records)):
                if record.image.shape[2] != channels:
                    raise RelayError(_channels_differ(self.feed, first, record))
                labels.append(record.label)
                of_image = parts(record.image)
                for part in of_image:
                    groups.add(index, part, 1 / len(of_image))
            return groups.finish(), np.array(labels)

    def _net(self, shape: tuple[int, int, int]) -> Dense | Crops:
        """The net for parts of images; shape: (C, H, W) of what it was trained on."""
        args = self.caffe, self.net_param, self.weights, shape, self.protocol.loss
        return Dense(*args, self.protocol.step) if self.protocol.kind == DENSE else Crops(*args)

    def _run_test_phase(self, images: int) -> tuple[np.ndarray, np.ndarray]:
        """As score_database, through the data layer itself."""
        pb, feed = self.caffe.proto.caffe_pb2, self.feed
        layers, scores = prediction_layers(pb, self.net_param, self.protocol.loss)
        data = pb.LayerParameter()
        data.CopyFrom(feed.layer)
        del data.include[:], data.exclude[:]
        if feed_of(data) == "scene":  # another record in a damaged one's place is another test
            DataLayer(data).clear("skip_damaged")
        net = build(self.caffe, [data, *layers], self.weights)
        found, labels = [], []
        with Progress(self.title, images) as progress:
            for done in range(0, images, feed.batch_size):
                new = min(feed.batch_size, images - done)  # the last batch wraps to the first ones
                net._forward(0, len(net.layers) - 1)
                found.append(softmax(np.array(net.blobs[scores].data[:new], np.float64)))
                labels.append(np.array(net.blobs[feed.layer.top[1]].data[:new]).astype(int))
                progress.count(new)
        return np.concatenate(found), np.concatenate(labels)


def _channels_differ(feed: Feed, first: Record, other: Record) -> str:
    return (
        f"{feed.source}: image {other.name!r} has {other.image.shape[2]} channels, {first.name!r} "
        f"{first.image.shape[2]}: give layer {feed.layer.name!r} transform_param "
        "{ force_color: true }, or convert the images again without -encoded"
    )


def parts_of(
    protocol: Protocol, feed: Feed, caffe: Any
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """What turns an image (H, W, C) into all its parts (C, h, w) that are tested, normalised."""
    if protocol.kind != CROP and protocol.kind != DENSE and not feed.crop:
        raise RelayError(
            f"protocol {protocol.kind}: layer {feed.layer.name!r} has no crop_size; this net sees "
            "whole images: test them with the protocol crop, or with dense"
        )

    normalise = Normaliser(caffe.proto.caffe_pb2, feed)

    def scaled(image: np.ndarray) -> list[np.ndarray]:
        return [normalise(resized(image, side)) for side in protocol.short_sides]

    def cropped(image: np.ndarray) -> list[np.ndarray]:
        cut = CUTS[protocol.kind]
        if normalise.fits(feed.crop, feed.crop) and not normalise.fits(*image.shape[:2]):
            return [normalise(part) for part in cut(image, feed.crop)]
        return cut(normalise(image), feed.crop)  # each pixel has its mean before the crop moves it

    make = scaled if protocol.kind == DENSE else cropped
    return lambda image: [part.transpose(2, 0, 1) for part in make(image)]


class Groups:
    """Runs parts of images in batches of one size and averages the scores of each image.

    pixels: of a batch, at most; a part that is larger makes one alone.
    """

    def __init__(self, net: Dense | Crops, images: int, pixels: int, progress: Progress) -> None:
        self.net, self.images, self.pixels, self.progress = net, images, pixels, progress
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


def softmax(scores: np.ndarray) -> np.ndarray:
    """The softmax of each row of (N, classes, ...)."""
    scores = scores.reshape(len(scores), -1)
    with np.errstate(invalid="ignore"):  # what is not finite is refused with the results
        exponentials = np.exp(scores - scores.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)
