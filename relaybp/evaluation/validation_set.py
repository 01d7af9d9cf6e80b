"""The images of a validation database, resized and normalised as the net's TEST data layer says."""

from contextlib import closing

import numpy as np

from caffe_plain.database import open_database

from ..errors import RelayError
from ..run_folder import test_data_layers


def test_data_layer(net_param):
    """The Data layer of the TEST phase."""
    found = test_data_layers(net_param)
    if len(found) != 1:
        raise RelayError(
            f"net {net_param.name!r}: {len(found)} Data layers of phase TEST; "
            "expected one, whose database is tested"
        )
    return found[0]


def count(source):
    """How many records a database holds."""
    with closing(open_database(source)) as environment:
        return environment.stat()["entries"]


def read(caffe, source):
    """Yield (image (H, W, 3) of bytes in BGR, label) of each record, in the order of the keys."""
    cv2 = _opencv()
    datum = caffe.proto.caffe_pb2.Datum()
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        for _, record in transaction.cursor():
            datum.ParseFromString(record)
            if datum.encoded:
                image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR)
            else:
                image = caffe.io.datum_to_array(datum).transpose(1, 2, 0)
            yield image, datum.label


def channel_means(caffe, transform):
    """What the TEST data layer subtracts, one value for each channel.

    A mean image is averaged: it fits no other size.
    """
    if transform.mean_file:
        blob = caffe.proto.caffe_pb2.BlobProto()
        with open(transform.mean_file, "rb") as file:
            blob.ParseFromString(file.read())
        return caffe.io.blobproto_to_array(blob)[0].mean((1, 2))
    return np.array(list(transform.mean_value) or [0.0])


def scaled(image, side, means, factor):
    """The image with its shorter side resized, as the net wants it: (3, H, W)."""
    cv2 = _opencv()
    height, width = image.shape[:2]
    ratio = side / min(height, width)
    size = max(side, round(width * ratio)), max(side, round(height * ratio))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # (H, W, 3)
    values = (resized - np.float32(means)) * np.float32(factor)
    return values.transpose(2, 0, 1)  # (3, H, W)


def _opencv():
    try:
        import cv2
    except ImportError:
        raise RelayError(
            "images are decoded and resized by OpenCV; install it for this Python "
            "(python3-opencv, or pip install opencv-python-headless)"
        ) from None
    return cv2
