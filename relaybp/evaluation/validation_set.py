"""The images of a validation database, and what the net's TEST data layer makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from caffe_plain import images
from caffe_plain.database import open_database
from caffe_plain.phases import TEST, layers_of, state_of

from ..data_layers import feed_of
from ..data_prep.colour_order import RGB, colour_order
from ..errors import RelayError
from ..layers.scene_message import parse_options

DAMAGED = "check_database names all records that are damaged; convert them again"


class Decoding(NamedTuple):
    """How a data layer decodes encoded images.

    color: True makes three channels, False one, None keeps their own; upright: turn photos as their
    orientation says, which a Data layer does where the channels are forced.
    """

    color: bool | None = None
    upright: bool = False


AS_STORED = Decoding(color=True)  # in colours, not turned, as SceneData decodes


class Feed(NamedTuple):
    """What the data layer of the TEST phase reads, and how it normalises.

    layer: its LayerParameter; source: the LMDB; crop: side in pixels, 0 for whole images;
    mean_file "" and mean_values () where nothing is subtracted; decoding: of encoded images.
    """

    layer: Any
    source: str
    batch_size: int
    crop: int
    mean_file: str
    mean_values: tuple[float, ...]
    scale: float
    decoding: Decoding


class Record(NamedTuple):
    """An image (H, W, C), uint8 or float32, with its name (the key of its record) and its label."""

    name: str
    image: np.ndarray
    label: int


class Stored(NamedTuple):
    """An image (H, W, C) as the net reads it, and whether that is in RGB order, else in BGR."""

    image: np.ndarray
    is_rgb: bool

    @property
    def for_people(self) -> np.ndarray:
        """(H, W, 3) uint8 in RGB order."""
        pixels = np.clip(self.image, 0, 255).astype(np.uint8)
        rgb = pixels if self.is_rgb else pixels[..., ::-1]
        return np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb


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
        decoding = _decoding_of(transform)
    else:
        data = transform = parse_options(layer.python_param.param_str)
        decoding = AS_STORED
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
        decoding,
    )


def _decoding_of(transform: Any) -> Decoding:
    if transform.force_color:
        return Decoding(True, upright=True)
    return Decoding(False, upright=True) if transform.force_gray else Decoding()


def record_names(source: str, count: int) -> list[str]:
    """What the first `count` records of a database are called: their keys."""
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        keys = transaction.cursor().iternext(values=False)
        return [_name(bytes(key)) for key in islice(keys, count)]


def read(caffe: Any, source: str, decoding: Decoding = AS_STORED) -> Iterator[Record]:
    """Yield the Record of each image of a database, in the order of the keys.

    RelayError names a record that is damaged, or that its data layer would refuse.
    """
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        for key, record in transaction.cursor():
            try:
                datum = caffe.proto.caffe_pb2.Datum.FromString(record)
            except DecodeError as error:
                raise RelayError(f"{_where(source, key)}: no Datum; {DAMAGED}") from error
            yield Record(_name(key), _pixels(caffe, source, key, datum, decoding), datum.label)


def stored(caffe: Any, source: str, names: Sequence[str]) -> list[Stored]:
    """Some images of a database, by their names; BGR where nobody knows their order."""
    is_rgb, found = colour_order(source) == RGB, []
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        cursor = transaction.cursor()
        for name in names:
            key = _find(cursor, name)
            if key is None:
                raise RelayError(f"{source}: no record {name!r}; the database has changed")
            datum = caffe.proto.caffe_pb2.Datum.FromString(cursor.value())
            found.append(Stored(_pixels(caffe, source, key, datum), is_rgb))
    return found


def _find(cursor: Any, name: str) -> bytes | None:
    """The key of the record of that name, at which the cursor then stands; None without one."""
    key = name.encode()
    if cursor.set_range(key) and cursor.key() == key:
        return key
    keys = cursor.iternext(values=False) if cursor.first() else ()  # one that is not UTF-8
    return next((bytes(key) for key in keys if _name(bytes(key)) == name), None)


def pictures(caffe: Any, source: str, names: Sequence[str]) -> list[np.ndarray]:
    """Some images of a database, by their names, for people: (H, W, 3) uint8 in RGB order."""
    return [image.for_people for image in stored(caffe, source, names)]


def _pixels(
    caffe: Any, source: str, key: bytes, datum: Any, decoding: Decoding = AS_STORED
) -> np.ndarray:
    where = _where(source, key)
    if datum.encoded:
        return _decode(datum.data, where, decoding)
    try:
        return caffe.io.datum_to_array(datum).transpose(1, 2, 0)
    except ValueError as error:
        raise RelayError(f"{where}: {error}; {DAMAGED}") from error


def _decode(data: bytes, where: str, decoding: Decoding) -> np.ndarray:
    """The pixels (H, W, C) of an encoded image, in BGR; where: for the error."""
    try:
        pixels = images.decode(data, *decoding)
    except ValueError as error:
        raise RelayError(f"{where}: {error}; {DAMAGED}") from error
    if pixels.dtype != np.uint8:
        raise RelayError(
            f"{where}: expected 8 bits per channel, found {pixels.dtype}; give the Data layer "
            "transform_param { force_color: true }, or convert it again without -encoded"
        )
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _where(source: str, key: bytes) -> str:
    return f"{source}, record {_name(key)!r}"


def _name(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


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
