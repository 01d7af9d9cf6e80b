"""Answers for images without labels, by a net whose answers are known."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

import archive_cases
import caffe
from evaluation_cases import CLASSES, evaluate, make_data, make_run, write_database
from relaybp.data_prep.convert_imageset import convert
from relaybp.errors import RelayError
from relaybp.evaluation.submission import list_images, numbers_of


def image_of(answer):
    """An image that the known net takes for class `answer`: as bright as 30 times it."""
    return np.full((16, 20, 3), 30 * answer, np.uint8)


@pytest.fixture
def run(tmp_path):
    """A run whose net scores class k by -(x - 30 k)^2, up to what all classes share."""
    data = make_data(tmp_path / "data", [image_of(k) for k in range(CLASSES)])
    settings = {"gray": False, "height": 0, "width": 0, "short": 0, "encoding": "png"}
    (data / "val_lmdb" / "settings.json").write_text(json.dumps(settings))
    run = make_run(tmp_path / "run", data, "fully connected", edit=bright)
    path = str(run / "a_iter_7.caffemodel")
    net = caffe.Net(str(run / "train_val.prototxt"), caffe.TEST, weights=path)
    net.params["conv1"][0].data[...] = 0
    net.params["conv1"][0].data[0, 0, 1, 1] = 1
    centres = 30.0 * np.arange(CLASSES) / 255
    net.params["fc"][0].data[...] = 0
    net.params["fc"][0].data[:, 0] = 100 * 2 * centres  # of the map's first position
    net.params["fc"][1].data[...] = -100 * centres**2
    net.save(path)
    return run


def bright(text):
    """The input in [0, 1]."""
    return text.replace("mean_value: 100 scale: 0.02", "scale: 0.00392156862745098")


ANSWERS = [4, 0, 6, 2, 5]


def answers(path):
    return [[int(word) for word in line.split(" ")] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("protocol", ["crop", "14,18", "10-crop", "central", "144-crop"])
def test_a_list_is_answered_in_its_order_from_one_on(run, tmp_path, protocol):
    images = tmp_path / "images"
    images.mkdir()
    for k, answer in enumerate(ANSWERS):
        cv2.imwrite(str(images / f"{9 - k}.png"), image_of(answer))
    lines = [f"{9 - k}.png" + (" 0" if k % 2 else "") for k in range(5)]  # some with a label
    (images / "test.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path / "answers.txt"
    words = [f"{run}@{protocol}", "--submission", out]
    text = evaluate(*words, "--images", images / "test.txt")
    assert text == f"{out}: 5 classes for each of 5 images of {images}/test.txt\n"
    found = answers(out)
    assert [row[0] for row in found] == [answer + 1 for answer in ANSWERS]
    assert all(len(set(row)) == 5 for row in found)
    assert found[1] == [1, 2, 3, 4, 5] and found[2] == [7, 6, 5, 4, 3], "then the nearest"
    evaluate(*words, "--images", images)  # a folder: by name, so the other way round
    assert [row[0] for row in answers(out)] == [answer + 1 for answer in ANSWERS[::-1]]


def test_a_database_and_several_runs(run, tmp_path):
    write_database(tmp_path / "test_lmdb", [image_of(answer) for answer in ANSWERS])
    out = tmp_path / "answers.txt"
    evaluate(run, f"{run}@14", "--images", tmp_path / "test_lmdb", "--submission", out)
    assert [row[0] for row in answers(out)] == [answer + 1 for answer in ANSWERS]


def test_files_are_prepared_as_the_validation_images_were(run, tmp_path):
    """Larger files, for a database whose images were resized to a shorter side of 16."""
    images, labels = tmp_path / "images", tmp_path / "val.txt"
    images.mkdir()
    for answer in ANSWERS:
        pixels = np.zeros((48, 60, 3), np.uint8)
        pixels[:, :18] = 30 * answer  # the crop begins in these only where the image is resized
        cv2.imwrite(str(images / f"{answer}.png"), pixels)
    labels.write_text("".join(f"{k}.png {k}\n" for k in ANSWERS))
    (tmp_path / "data" / "val_lmdb" / "data.mdb").rename(tmp_path / "old.mdb")
    shutil.rmtree(tmp_path / "data" / "val_lmdb")
    convert(f"{images}/", labels, tmp_path / "data" / "val_lmdb", resize_short=16)
    files, records = tmp_path / "files.txt", tmp_path / "records.txt"
    evaluate(run, "--images", labels, "--submission", files, status=1)  # relative to the list
    labels.rename(images / "val.txt")
    evaluate(run, "--images", images / "val.txt", "--submission", files)
    evaluate(run, "--images", tmp_path / "data" / "val_lmdb", "--submission", records)
    assert [row[0] for row in answers(files)] == [answer + 1 for answer in ANSWERS]
    assert answers(files) == answers(records)


def test_the_challenges_numbers(tmp_path):
    assert numbers_of([], 3, None) == [1, 2, 3]
    (tmp_path / "ids.txt").write_text("30\n10\n20\n")
    assert numbers_of(["a", "b", "c"], 3, str(tmp_path / "ids.txt")) == [30, 10, 20]
    with pytest.raises(RelayError, match="3 numbers for 3 classes; expected one for each of the 4"):
        numbers_of([], 4, str(tmp_path / "ids.txt"))


def test_imagenets_numbers_are_those_of_the_development_kit(tmp_path):
    (tmp_path / "kit.tar.gz").write_bytes(archive_cases.development_kit())
    names = [f"{synset} words" for synset in sorted(archive_cases.IDS)]
    found = numbers_of(names, 3, str(tmp_path / "kit.tar.gz"))
    assert found == [archive_cases.IDS[name.split()[0]] for name in names] == [2, 3, 1]
    with pytest.raises(RelayError, match="ImageNet's synsets .* give the development kit"):
        numbers_of(names, 3, None)
    with pytest.raises(RelayError, match="2 numbers for 3 classes"):
        numbers_of([*names[:2], "n99999999"], 3, str(tmp_path / "kit.tar.gz"))


def test_what_a_folder_holds_besides_is_said_and_names_can_be_any_bytes(tmp_path):
    names = [b"caf\xe9.png", b" b.jfif", b"c.JPE"]
    for name in [*names, b"d.heic", b".e.png"]:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    (tmp_path / "folder").mkdir()
    said = []
    found = list_images(str(tmp_path), said.append)
    assert [os.path.basename(os.fsencode(path)) for path in found] == sorted(names)
    assert [line.partition(" (")[0] for line in said] == [
        *("left out: 1 .heic files", "left out: 1 hidden files and folders"),
        "left out: 1 folders",
    ]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*names, b""]))
    found = list_images(str(tmp_path / "list.txt"))
    assert [os.path.basename(os.fsencode(path)) for path in found] == names


def test_what_is_not_there_is_said(run, tmp_path):
    with pytest.raises(RelayError, match="none: neither a folder, a list of images, nor a"):
        list_images(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RelayError, match="empty: no images there$"):
        list_images(str(tmp_path / "empty"))
    (tmp_path / "empty" / "a.heic").write_bytes(b"")
    with pytest.raises(
        RelayError, match=r"no images there\nleft out: 1 .heic files \(a.heic\); Op"
    ):
        list_images(str(tmp_path / "empty"))
    (tmp_path / "list.txt").write_text("a.png 3\n")
    with pytest.raises(RelayError, match=r"a\.png 3: no such file"):
        list_images(str(tmp_path / "list.txt"))
    (tmp_path / "a.png").write_bytes(b"no image")
    out = tmp_path / "answers.txt"
    words = [run, "--images", tmp_path / "list.txt", "--submission", out]
    assert "a.png: not an image" in evaluate(*words, status=1)
    (tmp_path / "data" / "val_lmdb" / "settings.json").unlink()
    assert "no settings.json there" in evaluate(*words, status=1) and not out.exists()
    assert "go together" in evaluate(*words[:3], status=2)
    assert "a submission is of all images" in evaluate(*words, "--limit", "1", status=2)
