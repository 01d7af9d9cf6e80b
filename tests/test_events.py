"""The event file: records framed as TFRecord, messages as TensorFlow has them in event.proto."""

import csv
import struct

import cv2
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from relaybp.events import EventFile, crc32c
from relaybp.report import Report

# of tensorflow/core/util/event.proto and framework/summary.proto: message, number, field, type
FIELDS = [
    ("Image", 1, "height", "INT32"),
    ("Image", 2, "width", "INT32"),
    ("Image", 3, "colorspace", "INT32"),
    ("Image", 4, "encoded_image_string", "BYTES"),
    ("Histogram", 1, "min", "DOUBLE"),
    ("Histogram", 2, "max", "DOUBLE"),
    ("Histogram", 3, "num", "DOUBLE"),
    ("Histogram", 4, "sum", "DOUBLE"),
    ("Histogram", 5, "sum_squares", "DOUBLE"),
    ("Histogram", 6, "bucket_limit", "DOUBLE"),
    ("Histogram", 7, "bucket", "DOUBLE"),
    ("Value", 1, "tag", "STRING"),
    ("Value", 2, "simple_value", "FLOAT"),
    ("Value", 4, "image", "Image"),
    ("Value", 5, "histo", "Histogram"),
    ("Summary", 1, "value", "Value"),
    ("Event", 1, "wall_time", "DOUBLE"),
    ("Event", 2, "step", "INT64"),
    ("Event", 3, "file_version", "STRING"),
    ("Event", 5, "summary", "Summary"),
]
REPEATED = {("Summary", "value"), ("Histogram", "bucket_limit"), ("Histogram", "bucket")}


def event_class():
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    messages = {
        name: file.message_type.add(name=name)
        for name, *_ in FIELDS[::-1]
        if name not in [message.name for message in file.message_type]
    }
    for name, number, field, kind in FIELDS:
        label = 3 if (name, field) in REPEATED else 1
        added = messages[name].field.add(name=field, number=number, label=label)
        if kind in messages:
            added.type, added.type_name = added.TYPE_MESSAGE, f".t.{kind}"
        else:
            added.type = getattr(added, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


def unmask(value):
    rotated = (value - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated << 15 | rotated >> 17) & 0xFFFFFFFF


def read(folder):
    """The Events of a folder's only event file, both checksums of each record checked."""
    (path,) = folder.glob("*tfevents*")
    data, events, at = path.read_bytes(), [], 0
    while at < len(data):
        length, check = struct.unpack_from("<QI", data, at)
        assert unmask(check) == crc32c(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert unmask(struct.unpack_from("<I", data, at + 12 + length)[0]) == crc32c(body)
        events.append(event_class().FromString(body))
        at += 16 + length
    return events


@pytest.mark.parametrize(
    "data, crc",
    [  # RFC 3720, B.4; and the usual check value
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_that_of_the_standard(data, crc):
    assert crc32c(data) == crc


def test_scalars_come_back(tmp_path):
    file = EventFile(str(tmp_path))
    file.scalar(0, "train/loss", 0.5)
    file.scalar(300_000, "cosine/" + "x" * 200, -1.25)
    file.close()
    head, first, second = read(tmp_path)
    assert head.file_version == "brain.Event:2" and head.wall_time > 1e9
    assert [(v.tag, v.simple_value) for v in first.summary.value] == [("train/loss", 0.5)]
    assert (second.step, second.summary.value[0].simple_value) == (300_000, -1.25)
    assert second.summary.value[0].tag == "cosine/" + "x" * 200


def pixels():
    """A picture (5, 7, 3)."""
    return np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)


def values():
    """Numbers that fill several buckets."""
    return np.random.RandomState(1).randn(500) * 0.01


def test_images_come_back(tmp_path):
    file = EventFile(str(tmp_path))
    file.image(7, "batch", pixels())
    file.close()
    (value,) = read(tmp_path)[1].summary.value
    image = value.image
    assert (value.tag, image.height, image.width, image.colorspace) == ("batch", 5, 7, 3)
    decoded = cv2.imdecode(
        np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_UNCHANGED
    )
    np.testing.assert_array_equal(decoded[..., ::-1], pixels())


def test_histograms_count_every_value(tmp_path):
    file = EventFile(str(tmp_path))
    file.histogram(7, "weights/conv1", values().reshape(5, 100))
    file.histogram(7, "zeros", np.zeros(3))
    file.histogram(7, "spoilt", [1.0, np.nan, np.inf, 3.0])
    file.histogram(7, "nothing", [np.nan])
    file.close()
    found = {v.tag: v.histo for event in read(tmp_path)[1:] for v in event.summary.value}
    assert set(found) == {"weights/conv1", "zeros", "spoilt"}
    histogram, all_values = found["weights/conv1"], values()
    assert (histogram.min, histogram.max) == (all_values.min(), all_values.max())
    assert histogram.num == 500 and histogram.sum == pytest.approx(all_values.sum())
    assert histogram.sum_squares == pytest.approx((all_values**2).sum())
    limits = np.array(histogram.bucket_limit)
    assert limits[-1] == all_values.max() and (np.diff(limits) > 0).all()
    for limit, below in zip(limits[:-1], np.cumsum(histogram.bucket)[:-1], strict=True):
        assert below == (all_values < limit).sum()
    assert found["zeros"].num == 3 and sum(found["zeros"].bucket) == 3
    assert (found["spoilt"].min, found["spoilt"].max, found["spoilt"].num) == (1, 3, 2)


def test_tensorboard_s_own_reader_finds_the_same(tmp_path):
    """In an environment that has it: pip install tensorboard."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    from tensorboard.util import tensor_util

    file = EventFile(str(tmp_path))
    file.scalar(3, "train/loss", 0.5)
    file.image(3, "batch", pixels())
    file.histogram(3, "weights/conv1", values())
    file.close()
    (path,) = tmp_path.iterdir()
    events = [e for e in reader.EventFileLoader(str(path)).Load() if e.summary.value]
    assert [event.step for event in events] == [3, 3, 3]
    found = {event.summary.value[0].tag: event.summary.value[0] for event in events}
    plugins = [value.metadata.plugin_data.plugin_name for value in found.values()]
    assert plugins == ["scalars", "images", "histograms"]
    tensors = {tag: tensor_util.make_ndarray(value.tensor) for tag, value in found.items()}
    assert tensors["train/loss"] == 0.5
    width, height, picture = tensors["batch"]
    assert (int(width), int(height)) == (7, 5) and picture.startswith(b"\x89PNG")
    buckets = tensors["weights/conv1"]  # rows of left, right, count
    for left, right, count in buckets[:-1]:
        assert count == ((values() >= left) & (values() < right)).sum()
    assert buckets[:, 2].sum() == 500


def test_a_run_s_events_are_its_table(tmp_path):
    report = Report(str(tmp_path), "a", 2, 1, quiet=True)
    report.start(0)
    report.iteration(1, 8, {"loss": 1.5, "aux_loss": 2.5}, 0.1)
    report.test(1, {"accuracy": 0.25})
    report.close()
    with open(tmp_path / "metrics.csv", newline="") as table:
        rows = [
            (int(row["iteration"]), f"{row['kind']}/{row['name']}", float(row["value"]))
            for row in csv.DictReader(table)
        ]
    found = [
        (event.step, event.summary.value[0].tag, event.summary.value[0].simple_value)
        for event in read(tmp_path)[1:]
    ]
    assert found == [(step, tag, pytest.approx(value)) for step, tag, value in rows]
    assert {tag for _, tag, _ in found} == {
        "train/loss",
        "train/aux_loss",
        "train/lr",
        "train/images/s",
        "test/accuracy",
    }
