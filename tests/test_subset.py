"""data_prep/subset.py: long-tailed sets and held-out validation sets."""

import json
from collections import Counter

import lmdb
import numpy as np
import pytest

from caffe.proto import caffe_pb2
from relaybp.data_prep import subset
from relaybp.data_prep.compute_image_mean import mean_of
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.small_images import write_set
from relaybp.layers.mean_file import read_mean

NAMES = ["ant", "bee", "cow"]


def records(database):
    """[(key, label, pixels)] of a database, by LMDB itself."""
    with lmdb.open(str(database), readonly=True) as environment, environment.begin() as transaction:
        datums = [(key, caffe_pb2.Datum.FromString(value)) for key, value in transaction.cursor()]
    return [(key, datum.label, datum.data) for key, datum in datums]


@pytest.fixture
def data(tmp_path):
    """40 images of each class to train with, 4 to test with, in a drawn order."""
    draw = np.random.default_rng(1)

    def arrays(count):
        labels = draw.permutation(np.repeat(np.arange(3), count))
        return [(draw.integers(0, 256, (len(labels), 3, 4, 4), np.uint8), labels)]

    write_set(tmp_path / "data", {"train": arrays(40), "val": arrays(4)}, NAMES, lmdb=True)
    return tmp_path / "data"


def test_a_long_tail_keeps_the_first_images_of_each_class(data, tmp_path):
    """16 to 1 over three classes is 1, 1/4, 1/16: 40, 10 and 2.5, rounded to even."""
    counts = subset.subset(data, tmp_path / "out", ratio=16)
    assert counts == {"train": [40, 10, 2], "val": [4, 4, 4]}
    before, after = records(data / "train_lmdb"), records(tmp_path / "out" / "train_lmdb")
    expected, seen = [], Counter()
    for record in before:
        seen[record[1]] += 1
        if seen[record[1]] <= [40, 10, 2][record[1]]:
            expected.append(record)
    assert after == expected
    assert records(tmp_path / "out" / "val_lmdb") == records(data / "val_lmdb")


def test_what_is_held_out_is_the_last_of_each_class_and_nothing_is_lost(data, tmp_path):
    counts = subset.subset(data, tmp_path / "out", share=0.25)
    assert counts == {"train": [30] * 3, "val": [10] * 3}
    train, val = (records(tmp_path / "out" / name) for name in ("train_lmdb", "val_lmdb"))
    assert sorted(train + val) == records(data / "train_lmdb")
    for label in range(3):
        last = max(key for key, found, _ in train if found == label)
        assert last < min(key for key, found, _ in val if found == label)


def test_the_folder_is_one_to_train_on(data, tmp_path):
    settings = json.loads((data / "train_lmdb" / "settings.json").read_text())
    subset.main(["--hold_out=0.5", str(data), str(tmp_path / "out")])
    out = tmp_path / "out"
    assert (out / "classes.txt").read_text().split() == NAMES
    pixels = [np.frombuffer(data, np.uint8) for _, _, data in records(out / "train_lmdb")]
    mean = read_mean(caffe_pb2, str(out / "mean.binaryproto"))
    np.testing.assert_allclose(mean.ravel(), np.mean(pixels, 0), rtol=1e-5)
    np.testing.assert_allclose(mean, mean_of(out / "train_lmdb")[0], rtol=1e-6)
    kept = json.loads((out / "train_lmdb" / "settings.json").read_text())
    assert kept == {**settings, "hold_out": 0.5}


@pytest.mark.parametrize(
    "asked, message",
    [
        ({}, "expected one of --long_tail=RATIO and --hold_out=SHARE"),
        ({"ratio": 2.0, "share": 0.5}, "expected one of"),
        ({"ratio": 0.5}, "a RATIO of 1 or more"),
        ({"share": 1.0}, "a SHARE between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(data, tmp_path, asked, message):
    with pytest.raises(PrepError, match=message):
        subset.subset(data, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_a_label_without_a_name_is_refused(data, tmp_path):
    (data / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(PrepError, match="label 2, but classes.txt has 2 names"):
        subset.subset(data, tmp_path / "out", ratio=2)
