"""The images of a validation database, and what the net's TEST data layer makes of them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from caffe_plain import images
from caffe_plain.database import data_file, open_database
from caffe_plain.phases import TEST, layers_of, state_of

from ..data_layers import feed_of
from ..errors import RelayError
from ..layers.scene_message import parse_options


class Feed(NamedTuple):
    """What the data layer of the TEST phase reads, and how it normalises.

    layer: its LayerParameter; source: the LMDB; crop: side in pixels, 0 for whole images;
    mean_file "" and mean_values () where nothing is subtracted.
    """

    layer: Any
    source: str
    batch_size: int
    crop: int
    mean_file: str
    mean_values: tuple[float, ...]
    scale: float


class Record(NamedTuple):
    """An image (H, W, C) in BGR with its name (the key of its record) and its label."""

    name: str
    image: np.ndarray
    label: int


class Stored(NamedTuple):
    """An image (H, W, C) as the net reads it, and whether that is in RGB order, else in BGR.

    NOTE: where keys are mere numbers, raw pixels are in RGB order already: so write Caffe's
    convert_cifar_data and data_prep's --lmdb. All others are in BGR order.
    """

    image: np.ndarray
    is_rgb: bool

    @property
    def for_people(self) -> np.ndarray:
        """(H, W, 3) uint8 in RGB order."""
        pixels = np.clip(self.image, 0, 255).astype(np.uint8)
        rgb = pixels if self.is_rgb else pixels[..., ::-1]
        return np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb


class Contents(NamedTuple):
    """What identifies a database's records, and their names in order."""

    sha256: str
    names: tuple[str, ...]


def test_feed(net_param: Any) -> Feed:
    """The Feed of a net's TEST phase: from its one Data layer, or from its one SceneData."""
    found = [layer for layer in layers_of(net_param, state_of(net_param, TEST)) if feed_of(layer)]
    if len(found) != 1:
        raise RelayError(
            f"net {net_param.name!r}: {len(found)} Data or SceneData layers of phase TEST; "
            "expected one, whose database is tested"
        )
    layer = found[0]
    if feed_of(layer) == "data":
        data, transform = layer.data_param, layer.transform_param
    else:
        data = transform = parse_options(layer.python_param.param_str)
    if len(layer.top) != 2:
        raise RelayError(
            f"layer {layer.name!r}: {len(layer.top)} tops; expected two, the images and the labels"
        )
    return Feed(
        layer,
        data.source,
        data.batch_size,
        transform.crop_size,
        transform.mean_file,
        tuple(transform.mean_value),
        transform.scale,
    )


def contents(source: str) -> Contents:
    """The SHA-256 of all keys and records of a database, and the keys; read once a process."""
    return _contents(os.path.realpath(source), _state(source))


def _state(source: str) -> tuple[tuple[str, int, int], ...]:
    """(name, bytes, time of the last change) of the files of a database."""
    folder = os.path.dirname(data_file(source))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    stats = [os.stat(os.path.join(folder, name)) for name in names]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats))


@functools.lru_cache
def _contents(source: str, state: tuple[tuple[str, int, int], ...]) -> Contents:
    """As `contents`; another `state` of the files means to read again."""
    digest, names = hashlib.sha256(), []
    with closing(open_database(source)) as environment, environment.begin(buffers=True) as reader:
        for key, record in reader.cursor():
            for part in (key, record):
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
            names.append(_name(bytes(key)))
    return Contents(digest.hexdigest(), tuple(names))


def read(caffe: Any, source: str) -> Iterator[Record]:
    """Yield the Record of each image of a database, in the order of the keys."""
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        for key, record in transaction.cursor():
            datum = caffe.proto.caffe_pb2.Datum.FromString(record)
            yield Record(_name(key), _pixels(caffe, source, key, datum), datum.label)


def stored(caffe: Any, source: str, names: Sequence[str]) -> list[Stored]:
    """Some images of a database, by their names."""
    found = []
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        cursor = transaction.cursor()
        for key in map(str.encode, names):
            if not cursor.set_range(key) or cursor.key() != key:
                raise RelayError(f"{source}: no record {_name(key)!r}; the database has changed")
            datum = caffe.proto.caffe_pb2.Datum.FromString(cursor.value())
            found.append(Stored(_pixels(caffe, source, key, datum), _is_rgb(key, datum)))
    return found


def holds_rgb(pb: Any, source: str) -> bool:
    """Whether the images of a database, by its first record, are in RGB order: see Stored."""
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        for key, record in transaction.cursor():
            return _is_rgb(bytes(key), pb.Datum.FromString(record))
    return False


def _is_rgb(key: bytes, datum: Any) -> bool:
    return key.isdigit() and not datum.encoded


def pictures(caffe: Any, source: str, names: Sequence[str]) -> list[np.ndarray]:
    """Some images of a database, by their names, for people: (H, W, 3) uint8 in RGB order."""
    return [image.for_people for image in stored(caffe, source, names)]


def _pixels(caffe: Any, source: str, key: bytes, datum: Any) -> np.ndarray:
    if datum.encoded:
        return decode(datum.data, f"{source}, record {_name(key)!r}")
    return caffe.io.datum_to_array(datum).transpose(1, 2, 0)


def decode(data: bytes, where: str) -> np.ndarray:
    """The pixels (H, W, 3) of an encoded image as it is stored, in BGR; where: for the error."""
    try:
        return images.decode(data)  # as the Data layer, whatever a photo's orientation says
    except ValueError as error:
        raise RelayError(f"{where}: {error}") from error


def _name(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


class Normaliser:
    """Subtracts a Feed's mean from images (H, W, C), then multiplies by its scale."""

    def __init__(self, caffe: Any, feed: Feed) -> None:
        self.factor = np.float32(feed.scale)
        self.mean = np.array(feed.mean_values or (0.0,), np.float32)  # (C,), or (H, W, C)
        if feed.mean_file:
            blob = caffe.proto.caffe_pb2.BlobProto()
            with open(feed.mean_file, "rb") as file:
                blob.ParseFromString(file.read())
            self.mean = caffe.io.blobproto_to_array(blob)[0].transpose(1, 2, 0)
        self.channels = np.float32(self.mean.reshape(-1, self.mean.shape[-1]).mean(0))  # (C,)

    def fits(self, image: np.ndarray) -> bool:
        """Whether there is a mean for every pixel of the image."""
        return self.mean.ndim == 3 and self.mean.shape[:2] == image.shape[:2]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image minus the mean of its pixels; minus `channels` where it does not fit."""
        return (image - (self.mean if self.fits(image) else self.channels)) * self.factor

    def by_channel(self, image: np.ndarray) -> np.ndarray:
        """The image minus one value per channel: a mean image's average."""
        return (image - self.channels) * self.factor


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """The image (H, W, C) with its shorter side resized to `side` pixels, bilinearly."""
    height, width = image.shape[:2]
    ratio = side / min(height, width)
    return stretched(image, max(side, round(height * ratio)), max(side, round(width * ratio)))


def stretched(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image (H, W, C) resized to that height and width, bilinearly."""
    cv2 = opencv()
    pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels.reshape(height, width, -1)  # OpenCV drops a single channel


def opencv() -> Any:
    """The module cv2."""
    try:
        import cv2
    except ImportError:
        raise RelayError(
            "images are decoded and resized by OpenCV; install it for this Python "
            "(python3-opencv, or pip install opencv-python-headless)"
        ) from None
    return cv2
