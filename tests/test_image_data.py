"""DATA as people have it: folders of images, converted once; and what is none, told apart."""

import os
import re
import time

import cv2
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from caffe_plain.class_names import read_class_names
from caffe_plain.database import new_database
from relaybp import image_data
from relaybp.data_prep.data_folder import find_splits, make_data_folder, record_side
from relaybp.data_prep.errors import PrepError
from relaybp.errors import RelayError
from relaybp.image_data import data_folder
from test_train import NET

CLASSES = ("cats", "dogs")
WITH_MEAN_IMAGE = NET.replace("mean_value: 120", 'mean_file: "data/mean.binaryproto"')


def net(text=NET):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def draw(folder, count, height=30, width=40, brightness=0):
    """Write `count` images per class, each of one grey: dark cats, bright dogs."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = np.full((height, width, 3), brightness + 100 * label + k, np.uint8)
            cv2.imwrite(str(folder / name / f"{k:02}.png"), pixels)
    return folder


def records(path):
    """[(file, label, shape, mean pixel)] of a database's records."""
    found = []
    with lmdb.open(str(path), readonly=True) as base, base.begin() as transaction:
        for key, value in transaction.cursor():
            datum = caffe_pb2.Datum.FromString(value)
            pixels = (
                cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR)
                if datum.encoded
                else caffe.io.datum_to_array(datum).transpose(1, 2, 0)
            )
            name = key.decode().partition("_")[2]
            found.append((name, datum.label, pixels.shape, float(pixels.mean())))
    return found


def test_a_part_of_each_class_validates_the_same_each_time(tmp_path):
    images, said = draw(tmp_path / "photos", 10), []
    for out in ("one", "two"):
        make_data_folder(str(images), tmp_path / out, crop=14, say=said.append)
    train, val = (records(tmp_path / "one" / name) for name in ("train_lmdb", "val_lmdb"))
    assert [row[1] for row in val] == [0, 1] and len(train) == 18
    assert {row[0] for row in train}.isdisjoint(row[0] for row in val)
    assert {row[2] for row in train} == {(16, 21, 3)}  # the shorter side for crops of 14
    for name, label, _, mean in [*train, *val]:
        assert (CLASSES[label], mean) == (name[:4], 100 * label + int(name[5:7]))
    assert (records(tmp_path / "two" / "train_lmdb"), records(tmp_path / "two" / "val_lmdb")) == (
        train,
        val,
    )
    assert read_class_names(tmp_path / "one" / "classes.txt") == list(CLASSES)
    mean = caffe_pb2.BlobProto.FromString((tmp_path / "one" / "mean.binaryproto").read_bytes())
    assert (mean.height, mean.width) == (14, 14)
    np.testing.assert_allclose(mean.data, np.mean([row[3] for row in train]), rtol=1e-5)
    assert (tmp_path / "one" / "color.txt").exists()
    assert "10 % of each class validate, chosen with seed 0" in "\n".join(said)
    assert "cats: 9 train, 1 val" in said


def test_a_val_folder_validates_and_bad_images_are_left_out(tmp_path):
    images, said = draw(tmp_path / "photos" / "train", 4).parent, []
    draw(images / "validation", 2, brightness=50)
    (images / "train" / "cats" / "00.png").write_bytes(b"no image")
    make_data_folder(str(images), tmp_path / "out", crop=32, square=True, say=said.append)
    train, val = (records(tmp_path / "out" / name) for name in ("train_lmdb", "val_lmdb"))
    assert len(train) == 7 and [row[3] for row in val] == [50, 51, 150, 151]
    assert {row[2] for row in [*train, *val]} == {(37, 37, 3)}
    assert any("train_lmdb: 1 images are left out" in line for line in said)
    mean = caffe_pb2.BlobProto.FromString((tmp_path / "out" / "mean.binaryproto").read_bytes())
    assert (mean.height, mean.width) == (37, 37)


def test_a_killed_conversion_goes_on(tmp_path, monkeypatch):
    """The database that was complete is not made again."""
    images = draw(tmp_path / "photos", 10)
    monkeypatch.setattr("relaybp.data_prep.data_folder.mean_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_data_folder(str(images), tmp_path / "out", crop=14)
    assert not (tmp_path / "out").exists()
    before = (tmp_path / "out.partial" / "train_lmdb").stat().st_ino
    monkeypatch.undo()
    with pytest.raises(PrepError, match="with crop 14, not 28; seed 0, not 1: give the same"):
        make_data_folder(str(images), tmp_path / "out", crop=28, seed=1)
    make_data_folder(str(images), tmp_path / "out", crop=14)
    assert (tmp_path / "out" / "train_lmdb").stat().st_ino == before
    with pytest.raises(PrepError, match="exists already"):
        make_data_folder(str(images), tmp_path / "out", crop=14)


@pytest.mark.parametrize(
    "folders, expected",
    [
        (["cats", "dogs"], ("", "")),
        (["train", "val"], ("/train", "/val")),
        (["Training", "Validation", "labels"], ("/Training", "/Validation")),
        (["train", "test"], ("/train", "/test")),
        (["train"], ("/train", "")),
        (["train", "plane", "car"], ("", "")),  # vehicles
        (["val", "test"], "holds test, val, but no train/"),
    ],
)
def test_splits(tmp_path, folders, expected):
    for name in folders:
        (tmp_path / name).mkdir()
    if isinstance(expected, str):
        with pytest.raises(PrepError, match=expected):
            find_splits(str(tmp_path))
        return
    train, val = find_splits(str(tmp_path))
    assert (train, val) == (f"{tmp_path}{expected[0]}", expected[1] and f"{tmp_path}{expected[1]}")


def test_record_side():
    assert [record_side(crop) for crop in (224, 112, 32, 299)] == [256, 128, 37, 342]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """What conversions were asked for, [(options, folder)]; nothing is converted."""
    calls = []

    def make_by(tool, *words):
        assert tool == "data_folder" and words[-3] == "--"
        os.makedirs(words[-1])
        calls.append((words[:-3], words[-2]))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(image_data, "make_by", make_by)
    image_data._cached.cache_clear()
    yield calls
    image_data._cached.cache_clear()


def test_a_folder_of_images_is_converted_once_and_when_it_has_changed(tmp_path, made):
    images = draw(tmp_path / "photos", 2)

    def found(text=NET, crop=None):
        image_data._cached.cache_clear()  # as in another process
        return data_folder(str(images), net(text), crop)

    first = found()
    assert re.fullmatch(r"photos-[0-9a-f]{12}", os.path.basename(first))
    assert first.startswith(str(tmp_path / "cache"))
    assert found() == first and made == [(("--crop=14",), str(images))]
    assert found(crop=12) != first and made[-1][0] == ("--crop=12",)
    assert found(WITH_MEAN_IMAGE) != first and made[-1][0] == ("--crop=14", "--square")

    known = {first}
    for change in (
        lambda: (images / "cats" / "00.png").rename(images / "cats" / "03.png"),
        lambda: (images / "cats" / "03.png").unlink(),
        lambda: os.utime(images / "cats" / "01.png", (time.time(), 7)),
        lambda: (images / "dogs").rename(images / "wolves"),
    ):
        change()
        known.add(found())
    assert len(known) == 5
    (images / "notes.txt").write_text("no image")
    assert found() in known
    images.rename(tmp_path / "moved")
    images = tmp_path / "moved"
    count = len(made)
    assert os.path.basename(found()).startswith("moved-") and len(made) == count + 1


def test_nothing_is_converted_where_nothing_may_be_made(tmp_path, made):
    images = draw(tmp_path / "photos", 1)
    assert "photos-" in data_folder(str(images), net(), None, makes=False)
    assert not made


def test_what_is_no_data_is_told_apart(tmp_path, made):
    (tmp_path / "lmdbs").mkdir()
    with new_database(str(tmp_path / "lmdbs" / "train_lmdb")) as put:
        put(b"0", b"0")
    assert data_folder(str(tmp_path / "lmdbs"), net(), None) == str(tmp_path / "lmdbs")
    (tmp_path / "a.zip").write_bytes(b"PK")
    for name, message in (
        ("nowhere", "nowhere: no such folder, from .*expected one of images"),
        ("lmdbs/train_lmdb", "train_lmdb: this is a database itself; name the folder that holds"),
        ("lmdbs/train_lmdb/data.mdb", "data.mdb: this is a database itself"),
        ("a.zip", "a.zip: this is a file"),
    ):
        with pytest.raises(RelayError, match=f"DATA=.*{message}"):
            data_folder(str(tmp_path / name), net(), None)
    (tmp_path / "lmdbs" / "train_lmdb").rename(tmp_path / "lmdbs" / "ilsvrc12_train_lmdb")
    with pytest.raises(RelayError, match="holds ilsvrc12_train_lmdb; expected train_lmdb and val"):
        data_folder(str(tmp_path / "lmdbs"), net(), None)
    assert not made
