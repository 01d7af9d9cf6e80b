"""The other data tools: means, lists of folders, the demo set. See test_archives.py, too."""

import os
from functools import partial

import cv2
import numpy as np
import pytest

from caffe.files.datum import decode_datum, parse_datum
from caffe.io import blobproto_to_array
from caffe.proto import caffe_pb2
from caffe_plain.errors import DataError
from caffe_plain.files import complete_folder
from relaybp.data_prep import color_pca, compute_image_mean, demo_scenes, make_list
from relaybp.data_prep.datum_db import DatumDB, encoded_datum, raw_datum
from relaybp.data_prep.errors import PrepError
from relaybp.layers import finish
from tests.data_images import convert, golden, records, write_images
from tests.oracle import record_data_prep as cases


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path)


# compute_image_mean


@pytest.mark.parametrize("name", cases.MEANS)
def test_mean_is_that_of_the_original(images, name):
    db = convert(images, *cases.CONVERSIONS[name])
    compute_image_mean.main([str(db), str(images / "mean.binaryproto")])
    ours, theirs = (
        blobproto_to_array(caffe_pb2.BlobProto.FromString(data))
        for data in ((images / "mean.binaryproto").read_bytes(), golden()["mean/" + name])
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_mean_of_central_squares(images):
    db = convert(images)
    expected = np.mean(
        [
            decode_datum(value, key)[:, (h - 8) // 2 :, (w - 8) // 2 :][:, :8, :8]
            for key, value in records(db).items()
            for h, w in [decode_datum(value, key).shape[1:]]
        ],
        axis=0,
    )
    mean, count = compute_image_mean.mean_of(db, center_crop=8, workers=2)
    assert count == 6
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_mean_errors(images):
    db = convert(images)
    with pytest.raises(
        PrepError,
        match=r"'00000001_b.JPEG': 3 x 25 x 17.*before it are 3 x 20 x 26"
        ".*-resize_width.*--center_crop",
    ):
        compute_image_mean.main([str(db)])
    with pytest.raises(PrepError, match="gray.png': 16 x 14 is smaller|is smaller than"):
        compute_image_mean.main(["--center_crop=19", str(db)])
    with pytest.raises(DataError, match="none: no LMDB"):
        compute_image_mean.main([str(images / "none")])
    os.rename(db, images / "db.partial")
    with pytest.raises(DataError, match="its conversion has not finished"):
        compute_image_mean.main([str(db)])
    (images / "torn").mkdir()
    (images / "torn" / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(DataError, match="torn: not a readable LMDB"):
        compute_image_mean.main([str(images / "torn")])


# color_pca


def test_color_pca_of_a_known_covariance(tmp_path):
    """Pixels at the eight corners of a box whose edges are 48, 24 and 12 long, in [0, 255]."""
    axes = np.array([[1, 2, 2], [2, 1, -2], [2, -2, 1]])  # each 3 long
    corners = np.stack(np.meshgrid([-8, 8], [-4, 4], [-2, 2]), axis=-1).reshape(8, 3)
    pixels = (128 + corners @ axes).astype(np.uint8)  # (8, 3)
    with DatumDB(tmp_path / "db", {}) as db:
        db.put(b"0", raw_datum(pixels[:6].T.tobytes(), (3, 2, 3), 0))
        png = cv2.imencode(".png", pixels[6:].reshape(1, 2, 3))[1].tobytes()
        db.put(b"1", encoded_datum(png, 0))
        db.finish([2], ["a"])
    color_pca.main([str(tmp_path / "db"), str(tmp_path / "color.txt")])
    values, vectors = finish._read_color(tmp_path / "color.txt", 3)  # as the layer does
    np.testing.assert_allclose(values, np.array([24, 12, 6]) ** 2 / 255**2, rtol=1e-8)
    np.testing.assert_allclose(vectors * np.sign(vectors[:, :1]), axes / 3, atol=1e-8)


def test_color_pca_is_numpys(images):
    db = convert(images, "-encode_type=png")
    for every in (1, 2):
        kept = list(records(db).items())[::every]
        pixels = np.concatenate(
            [decode_datum(value, key, color=True).reshape(3, -1) for key, value in kept], axis=1
        )
        covariance = np.cov(pixels / 255, bias=True)
        values, vectors, count = color_pca.color_pca(db, every, workers=2)
        assert count == len(kept)
        np.testing.assert_allclose(values, np.sort(np.linalg.eigvalsh(covariance))[::-1])
        np.testing.assert_allclose(vectors.T * values @ vectors, covariance, rtol=1e-9, atol=1e-12)


def test_color_pca_errors(images):
    with pytest.raises(DataError, match="none: no LMDB"):
        color_pca.main([str(images / "none")])
    with pytest.raises(PrepError, match="record '00000000_a.jpg' has 1 channels.*without -gray"):
        color_pca.main([str(convert(images, "-gray"))])
    with pytest.raises(PrepError, match="--every=0: expected 1 or more"):
        color_pca.main(["--every=0", str(images / "db")])


# make_list


def test_make_list(tmp_path):
    for name, count in (("b dog", 20), ("a", 10)):
        (tmp_path / "in" / name / "deep").mkdir(parents=True)
        for k in range(count):
            (tmp_path / "in" / name / ("deep" if k % 2 else "") / f"{k}.JPG").write_bytes(b"")
    (tmp_path / "in" / "a" / "notes.txt").write_text("no image")
    make_list.main(["--val_fraction=0.2", str(tmp_path / "in"), str(tmp_path / "out")])
    lines = {
        split: (tmp_path / "out" / f"{split}.txt").read_text().splitlines()
        for split in ("train", "val")
    }
    assert (tmp_path / "out" / "classes.txt").read_text() == "a\nb dog\n"
    assert [line[-1] for line in lines["val"]] == ["0"] * 2 + ["1"] * 4
    found = sorted(line.rsplit(" ", 1)[0] for line in lines["train"] + lines["val"])
    assert found == sorted(
        str(path.relative_to(tmp_path / "in")) for path in (tmp_path / "in").rglob("*.JPG")
    )
    again = make_list.make_lists(tmp_path / "in", tmp_path / "again", 0.2)
    assert again == [("a", 8, 2), ("b dog", 16, 4)]
    assert (tmp_path / "again" / "val.txt").read_text().splitlines() == lines["val"]


BAD_FOLDERS = [
    ([], "has no subfolders"),
    (["train/a/1.jpg", "val/a/1.jpg"], "look like splits, not classes"),
    (["a/1.jpg", "b/notes.txt"], r"1 of 2 classes have no training image:\n  b"),
    (["a/1.jpg", "2.jpg"], r"1 images outside the class folders:\n  2.jpg"),
    (["a/1\n.jpg"], "a list file cannot hold such a name"),
]


@pytest.mark.parametrize("files, message", BAD_FOLDERS)
def test_make_list_errors(tmp_path, files, message):
    (tmp_path / "in").mkdir()
    for file in files:
        path = tmp_path / "in" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(PrepError, match=message):
        make_list.make_lists(tmp_path / "in", tmp_path / "out", 0)
    assert not list(tmp_path.glob("out*"))


# demo_scenes


def test_demo_scenes(tmp_path):
    small = partial(demo_scenes.make_demo, train=50, val=16)
    counts = small(tmp_path / "one", workers=1)
    small(tmp_path / "two", workers=2)
    small(tmp_path / "other", seed=1, workers=2)
    assert sum(counts["train"]) == 50 and counts["val"] == [2] * 8
    assert counts["train"] == sorted(counts["train"], reverse=True)
    for split in ("train_lmdb", "val_lmdb"):
        one, two, other = (records(tmp_path / name / split) for name in ("one", "two", "other"))
        assert one == two
        assert not set(one.values()) & set(other.values())
        labels = [parse_datum(value, key).label for key, value in one.items()]
        assert np.bincount(labels).tolist() == counts[split[:-5]]
        assert {decode_datum(value, key).shape for key, value in one.items()} == {(3, 128, 128)}
    classes = (tmp_path / "one" / "classes.txt").read_text().split()
    assert len(classes) == 8
    mean = blobproto_to_array(
        caffe_pb2.BlobProto.FromString((tmp_path / "one" / "mean.binaryproto").read_bytes())
    )
    assert mean.shape == (1, 3, 128, 128)


def test_demo_scenes_are_made_once(tmp_path, capsys):
    (tmp_path / "demo.partial").mkdir()
    (tmp_path / "demo.partial" / "rest of a killed run").write_text("")
    args = ["--train=25", "--val=8", "--workers=1", str(tmp_path / "demo")]
    demo_scenes.main(args)
    assert "demo: 8 classes, 25 train, 8 val" in capsys.readouterr().out
    before = sorted(path.name for path in (tmp_path / "demo").iterdir())
    assert before == [
        "classes.txt",
        "color.txt",
        "mean.binaryproto",
        "samples.png",
        "train_lmdb",
        "val_lmdb",
    ]
    demo_scenes.main(args)
    assert "stands already" in capsys.readouterr().out
    with pytest.raises(PrepError, match="so that no kind is empty"):
        demo_scenes.make_demo(tmp_path / "small", train=10)


def test_a_folder_that_cannot_be_finished_leaves_nothing(tmp_path):
    with (
        pytest.raises(DataError, match="cannot make .*out .* MB free.*: full; nothing is left"),
        complete_folder(tmp_path / "out"),
    ):
        raise OSError("full")
    with pytest.raises(KeyError), complete_folder(tmp_path / "out") as partial_folder:
        (partial_folder / "file").write_text("")
        raise KeyError
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists already"), complete_folder(tmp_path / "out"):
        pass
