"""Testing as the papers do: all positions of an image, errors by hand, and the command."""

import csv
import re

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from evaluation_cases import (
    CROP,
    ROOT,
    STRIDE,
    TOPS,
    draw_images,
    evaluate,
    make_data,
    make_run,
    net_param,
    save_weights,
)
from relaybp import engines
from relaybp.commands.evaluate import write_tables
from relaybp.errors import RelayError
from relaybp.evaluation import dense, measures, nets, results, scoring, validation_set
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import measure
from relaybp.progress import Progress


@pytest.fixture
def weights(tmp_path):
    """Makes a .caffemodel with seeded weights for a net."""
    return lambda param: save_weights(param, tmp_path / "a.caffemodel")


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("top", TOPS)
def test_scores_are_the_mean_over_all_crops(weights, top, step):
    """Without padding a position of the map is a crop: the plain net on each is the truth."""
    param, images = net_param(top), np.random.RandomState(1).randn(2, 3, 18, 21).astype(np.float32)
    path = weights(param)
    found = dense.Dense(caffe, param, path, (3, CROP, CROP), step=step).scores(images)
    layers, scores = nets.prediction_layers(caffe_pb2, param)
    plain = nets.net_of(caffe, layers, "data", (1, 3, CROP, CROP), path)
    for image, mean in zip(images, found, strict=True):
        np.testing.assert_allclose(mean, mean_of_crops(plain, scores, image, step), rtol=1e-5)


def mean_of_crops(plain, scores, image, step):
    """The mean of the softmax of a plain net over all crops of an image (3, 18, 21)."""
    crops = []
    for y in range(0, 18 - CROP + 1, STRIDE * step):
        for x in range(0, 21 - CROP + 1, STRIDE * step):
            plain.blobs["data"].data[...] = image[:, y : y + CROP, x : x + CROP]
            plain.forward()
            each = np.exp(plain.blobs[scores].data.ravel().astype(np.float64))
            crops.append(each / each.sum())
    assert len(crops) == {1: 15, 2: 6}[step]
    return np.mean(crops, 0)


def test_the_training_crop_gives_one_position(weights):
    param = net_param()
    net = dense.Dense(caffe, param, weights(param), (3, CROP, CROP))
    assert net.cut == "conv1" and net.window == (6, 6, 6)
    assert net.scores(np.zeros((1, 3, CROP, CROP), np.float32)).sum() == pytest.approx(1)
    with pytest.raises(RelayError, match=r"12 x 20 pixels; the net was trained on 13 x 13"):
        net.scores(np.zeros((1, 3, 12, 20), np.float32))


@pytest.mark.parametrize(
    "model, blob",
    [
        ("vgg19", "pool5"),
        ("model_a", "conv5_5"),
        ("model_b", "inception4d"),
        ("resnet50_relay", "res5c"),
        ("inception_v3", "inception5b"),
        ("auxnet-56-5", "last_bn"),
    ],
)
def test_where_the_models_are_cut(model, blob):
    text = (ROOT / "prototxt" / model / "train_val.prototxt").read_text()
    layers, scores = nets.prediction_layers(
        caffe_pb2, text_format.Parse(text, caffe_pb2.NetParameter())
    )
    assert dense.cut(layers, scores)[1] == blob
    assert not any(layer.name.startswith("aux") for layer in layers)


def test_what_cannot_be_cut_says_why(weights):
    param = net_param()
    with pytest.raises(RelayError, match="no SoftmaxWithLoss layer los "):
        nets.prediction_layers(caffe_pb2, param, "los")
    layers, _ = nets.prediction_layers(caffe_pb2, param)
    with pytest.raises(RelayError, match="no layer below 'conv1' asks for one size"):
        dense.cut(layers[:2], "conv1")


def test_images_are_resized_by_their_shorter_side():
    image = np.full((30, 60, 3), (10, 20, 30), np.uint8)
    found = validation_set.resized(image, 15)
    assert found.shape == (15, 30, 3) and (found == (10, 20, 30)).all()
    assert validation_set.resized(image[:, :, :1], 15).shape == (15, 30, 1)


def test_errors_by_hand():
    scores = np.array(
        [[5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [1, 1, 1, 1, 1, 1]]
    )
    labels = np.array([0, 4, 5, 5])
    ranks = measures.ranks(scores, labels)
    assert ranks.tolist() == [0, 4, 5, 5], "a tie speaks against the net"
    assert measures.errors(ranks, 6) == {1: 75.0, 5: 50.0}
    assert measures.errors(np.array([0, 1, 1, 1]), 3) == {1: 75.0}, "5 of 3 are all"
    assert measures.class_errors(ranks, labels, 6) == [(0, 1, 0.0), (4, 1, 0.0), (5, 2, 100.0)]
    assert measures.class_errors(ranks, labels, 6, 1) == [(0, 1, 0.0), (4, 1, 100), (5, 2, 100)]


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """A run's folder, and a database of 10 encoded images."""
    return make_run(tmp_path / "run", make_data(tmp_path / "data", draw_images(10)))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_single_crop_is_the_test_phase(run):
    text = evaluate(run)
    net = caffe.Net(
        str(run / "train_val.prototxt"), caffe.TEST, weights=str(run / "a_iter_7.caffemodel")
    )
    wrong = 0
    for images_of_it in (4, 4, 2):  # the third batch starts over after ten
        net.forward()
        wrong += (net.blobs["fc"].data.argmax(1) != net.blobs["label"].data)[:images_of_it].sum()
    assert f"{run}: top-1 error {10 * wrong:.2f} %, top-5 error" in text
    assert "on 10 images\n" in text and text.count("error") == 2, "each number once"
    for line in ("protocol  crop", "weights   a_iter_7.caffemodel", "val_lmdb, 10 records"):
        assert line in text
    (first, second) = rows(run / "errors.csv")
    assert (first["test"], first["k"], first["error"]) == ("crop", "1", f"{10 * wrong:.2f}")
    assert second["weights"] == "a_iter_7.caffemodel"
    classes = rows(run / "per_class_crop.csv")
    assert sorted(row["class"] for row in classes) == [f"class {k}" for k in range(7)]
    assert sum(int(row["images"]) for row in classes) == 10


@pytest.mark.parametrize(
    "before, kept",
    [
        (b"", []),
        (b"test,k,error,images,weights\r\nvgg,1,2.00,9,a\r\ncrop,1,3.00,9,a\r\nhalf,1", ["vgg"]),
        (b"test;k;error;images;weights\nvgg;1;2,00;9;a\n", []),
        (b"test,k,error,images,weights\n\xff\n", []),
    ],
    ids=["empty", "rows", "semicolons", "no text"],
)
def test_what_other_programs_leave_of_a_table_stops_no_test(run, before, kept):
    result = measure(engines.of(caffe), str(run), Protocol(), gpu="none")
    (run / "errors.csv").write_bytes(before)
    write_tables(str(run), result)
    assert [row["test"] for row in rows(run / "errors.csv")] == [*kept, "crop", "crop"]


@pytest.mark.parametrize("protocol", ["crop", "10-crop"])
def test_the_bar_of_an_interrupted_test_is_taken_away(run, monkeypatch, protocol):
    bars = []

    class Interrupted(Progress):
        def count(self, things):
            bars.append("shown")
            raise KeyboardInterrupt

        def close(self):
            bars.append("closed")
            super().close()

    monkeypatch.setattr(scoring, "Progress", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(engines.load(), str(run), Protocol.parse(protocol), None, "none")
    assert bars == ["shown", "closed"]


@pytest.mark.parametrize("why", ["a file is there", "no right to write"])
def test_where_nothing_can_be_kept_nothing_is_tested(run, monkeypatch, why):
    if why == "a file is there":
        (run / "results").touch()
    else:
        (run / "results").mkdir()
        monkeypatch.setattr("os.access", lambda path, mode: path != str(run / "results"))
    monkeypatch.setattr(results, "Tester", None)
    with pytest.raises(OSError, match="results"):
        measure(engines.load(), str(run), Protocol.parse("crop"), None, "none")


def test_runs_are_tested_each_in_its_own_way_and_together(run):
    words = [f"{run}@14,18", f"{run}@10-crop", "--limit", "3"]
    text = evaluate(*words)
    one, other, both = (line for line in text.splitlines() if not line.startswith(" "))
    assert one.startswith(f"{run}: ") and both.startswith("ensemble of 2: ")
    assert all(line.endswith("on 3 images, only the first of 10") for line in (one, other, both))
    out = run.parent / "run+run"
    assert [row["test"] for row in rows(out / "errors.csv")] == ["ensemble-2_limit3"] * 2
    assert sum(int(row["images"]) for row in rows(out / "per_class_ensemble-2_limit3.csv")) == 3
    assert evaluate(*words) == text
    names = {row["test"] for row in rows(run / "errors.csv")}
    assert names == {"dense-14-18_limit3", "10-crop_limit3"}


def test_a_mean_image_is_said_to_be_resized_where_it_is(run):
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=16, width=20, data=[90.0] * 960)
    mean = run.parent / "data" / "mean.binaryproto"
    mean.write_bytes(blob.SerializeToString())
    param = run / "train_val.prototxt"
    param.write_text(param.read_text().replace("mean_value: 100.0", f'mean_file: "{mean}"'))
    line = f"\n  mean      {mean} (16 x 20), resized to the size of each image\n"
    assert line in evaluate(run, "--scales", "14") and line not in evaluate(run)


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--limit", "0"], "limit 0: expected 1 image or more"),
        (["--limit", "-3"], "limit -3: expected 1 image or more"),
        (["--scales", ""], "shorter sides .*: dense needs one or more"),
        (["--scales", "14,x"], "protocol 'dense:14,x': expected one of crop, dense"),
        (["--scales", "14,14"], "one is given twice"),
        (["--scales", "12"], "12 x 15 pixels; the net was trained on 13 x 13"),
        (["--step", "2"], "step 2 of 'crop': only dense takes one"),
        (["--protocol", "vg"], "protocol 'vg': expected one of crop"),
        (["--loss", "los"], "no SoftmaxWithLoss layer los"),
        (["--weights", "none.caffemodel"], "none.caffemodel: No such file"),
        (["--gpu", "x"], "GPU=x: expected auto, none or a GPU's number"),
    ],
)
def test_what_makes_no_sense_is_an_error(run, words, complaint):
    assert re.search(complaint, evaluate(run, *words, status=1))
    assert not (run / "results").exists()
