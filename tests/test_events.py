"""The event file: records framed as TFRecord, messages as TensorFlow has them in event.proto."""

import csv
import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from relaybp.events import EventFile, crc32c
from relaybp.report import Report

# of tensorflow/core/util/event.proto and framework/summary.proto: message, number, field, type
FIELDS = [
    ("Value", 1, "tag", "STRING"),
    ("Value", 2, "simple_value", "FLOAT"),
    ("Summary", 1, "value", "Value"),
    ("Event", 1, "wall_time", "DOUBLE"),
    ("Event", 2, "step", "INT64"),
    ("Event", 3, "file_version", "STRING"),
    ("Event", 5, "summary", "Summary"),
]


def event_class():
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    messages = {
        name: file.message_type.add(name=name)
        for name, *_ in FIELDS[::-1]
        if name not in [message.name for message in file.message_type]
    }
    for name, number, field, kind in FIELDS:
        added = messages[name].field.add(name=field, number=number, label=1 + 2 * (kind == "Value"))
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
