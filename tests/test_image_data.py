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
from caffe_plain.trained import files_of
from relaybp import image_data
from relaybp.data_prep.data_folder import find_splits, make_data_folder, record_side
from relaybp.data_prep.errors import PrepError
from relaybp.errors import RelayError
from relaybp.evaluation.photos import classify, list_photos
from relaybp.image_data import data_folder
from test_train import NET, train

CLASSES = ("cats", "dogs")


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
    make_data_folder(str(images), tmp_path / "out", crop=32, say=said.append)
    train, val = (records(tmp_path / "out" / name) for name in ("train_lmdb", "val_lmdb"))
    assert len(train) == 7 and [row[3] for row in val] == [50, 51, 150, 151]
    assert {row[2] for row in [*train, *val]} == {(37, 49, 3)}
    assert any("train_lmdb: 1 images are left out" in line for line in said)
    mean = caffe_pb2.BlobProto.FromString((tmp_path / "out" / "mean.binaryproto").read_bytes())
    assert (mean.height, mean.width) == (32, 32)


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
    assert found(NET.replace("mean_value: 120", 'mean_file: "data/mean.binaryproto"')) == first

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


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("told", ["the tool", "both"])
def test_a_conversion_that_is_interrupted_is_no_error(tmp_path, monkeypatch, told):
    """Ctrl-C in a terminal reaches both; who asked for the data has nothing more to say."""
    whom = {"the tool": "os.getpid()", "both": "os.getppid(), signal.SIGINT); os.kill(os.getpid()"}
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"os.kill({whom[told]}, signal.SIGINT)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        image_data.make_by("demo_scenes", "x")


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


# ---- a model for 32 x 32 pixels, on photos of 40 x 120 -------------------------------------------

SCALE = 0.017  # of plain10


def draw_ramps(folder):
    """Photos of 40 x 120: blue rises by 2 a column, green by 5 a row, and red tells the class."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(10):
            rows, columns = np.mgrid[:40, :120]
            red = np.full_like(rows, 100 + 100 * label + k)
            pixels = np.stack([2 * columns, 5 * rows, red], axis=2).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{k}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def cifar_run(tmp_path_factory):
    """(photos, run) of two iterations of plain10 on such photos."""
    folder = tmp_path_factory.mktemp("cifar")
    photos = draw_ramps(folder / "photos")
    words = "--model plain10 --data photos --batch 4"
    settings = "--set max_iter=2 --set snapshot=2 --set random_seed=3"
    train(folder, *words.split(), *settings.split(), "--out", str(folder / "run"))
    return photos, folder / "run"


def layers_of_run(run, phase, count=None):
    """The net of a run's first `count` layers of train_val.prototxt, in that phase."""
    param = text_format.Parse((run / "train_val.prototxt").read_text(), caffe_pb2.NetParameter())
    (run / "some.prototxt").write_text(str(caffe_pb2.NetParameter(layer=param.layer[:count])))
    return caffe.Net(str(run / "some.prototxt"), phase)


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_cifar_net_sees_photos_in_their_proportions(cifar_run, phase):
    """A step of a pixel is 40/37 of one of the photo's, to the right and down."""
    pixels = layers_of_run(cifar_run[1], phase, count=2).forward()["data"] / SCALE
    assert pixels.shape[2:] == (32, 32)
    right, down = (np.abs(np.diff(pixels, axis=axis)) for axis in (3, 2))
    assert right[:, 0].mean((1, 2)) == pytest.approx(2 * 40 / 37, abs=0.05)
    assert down[:, 1].mean((1, 2)) == pytest.approx(5 * 40 / 37, abs=0.05)


def test_a_cifar_net_trains_on_crops_from_all_over_the_photo(cifar_run):
    data = layers_of_run(cifar_run[1], caffe.TRAIN, count=2)
    blue = np.concatenate([data.forward()["data"][:, 0].mean((1, 2)) for _ in range(8)]) / SCALE
    assert np.ptp(blue) > 60  # of the 170 between the crop at the left and the one at the right


def test_all_that_a_cifar_run_does_prepares_photos_alike(cifar_run):
    """deploy.prototxt on a photo resized, cropped and centred by hand; evaluation; classify."""
    photos, run = cifar_run
    paths = list_photos(str(photos))
    mean = caffe.io.blobproto_to_array(
        caffe_pb2.BlobProto.FromString((run / "mean.binaryproto").read_bytes())
    )
    assert mean.shape == (1, 3, 1, 1)
    said = r"_lmdb has images of 37 x 111 pixels, \S+ of 32 x 32: 'data' is less the mean of each"
    assert len(re.findall(said, (run / "train.log").read_text())) == 1
    small = [
        cv2.resize(cv2.imread(path), (111, 37), interpolation=cv2.INTER_AREA)[2:34, 39:71]
        for path in paths
    ]
    pixels = np.stack(small).transpose(0, 3, 1, 2) - mean  # deploy.prototxt scales them
    trained, expected = with_telling_scores(run, pixels)
    assert np.ptp(expected, axis=0).min() > 0.5  # the photos differ
    answers = classify(caffe, str(run), trained, paths)
    np.testing.assert_allclose(answers.scores, expected, atol=0.01)
    net = layers_of_run(run, caffe.TEST)
    net.copy_from(trained.weights)
    net.forward()
    (validating,) = (run.parent / "cache" / "caffe-relay" / "data").glob("photos-*/val_lmdb")
    for row, (name, *_) in enumerate(records(validating)):
        score = np.exp(net.blobs["fc"].data[row])
        place = paths.index(str(photos / name))
        np.testing.assert_allclose(score / score.sum(), expected[place], atol=0.01)


def with_telling_scores(run, pixels):
    """(Trained, prob) of weights whose first score of `pixels` has mean 0 and deviation 1.

    The second score is its negative.
    """
    net = caffe.Net(str(run / "deploy.prototxt"), files_of(str(run)).weights, caffe.TEST)
    net.blobs["data"].reshape(*pixels.shape)
    net.forward(data=pixels)
    score = net.blobs["fc"].data[:, 0].copy()
    weights, biases = net.params["fc"]
    sign = np.array([1, -1])
    biases.data[...] = sign * (biases.data[0] - score.mean()) / score.std()
    weights.data[...] = np.outer(sign, weights.data[0] / score.std())
    net.save(str(run / "telling.caffemodel"))
    prob = net.forward(data=pixels)["prob"]
    return files_of(str(run), str(run / "telling.caffemodel")), prob
