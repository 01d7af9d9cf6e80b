"""What is kept of tests: when a test runs again, what a limit leaves out, ensembles."""

import json
import os
import re
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from evaluation_cases import CLASSES, CROP, draw_images, make_data, make_run, write_database
from relaybp import engines, progress
from relaybp.errors import RelayError
from relaybp.evaluation import dense, nets, scoring, validation_set
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import Member, Result
from relaybp.evaluation.results import ensemble as ensemble_on
from relaybp.evaluation.results import measure as measure_on
from relaybp.progress import Progress

measure, ensemble = partial(measure_on, gpu="none"), partial(ensemble_on, gpu="none")
ENGINE = engines.of(caffe)
CROP_TEST, DENSE_TEST = Protocol(), Protocol.parse("14,18")
IMAGES = draw_images(10)


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data", IMAGES)


@pytest.fixture
def run(tmp_path, data):
    return make_run(tmp_path / "run", data)


@pytest.fixture
def forwards(monkeypatch):
    """A list that gets an entry for each forward pass of a net."""
    found, plain = [], caffe.Net._forward
    monkeypatch.setattr(
        caffe.Net, "_forward", lambda net, *ends: found.append(ends) or plain(net, *ends)
    )
    return found


def test_the_crops_scores_are_those_of_the_test_phase(run):
    result = measure(ENGINE, str(run), CROP_TEST)
    net = caffe.Net(
        str(run / "train_val.prototxt"), caffe.TEST, weights=str(run / "a_iter_7.caffemodel")
    )
    for first in range(0, 10, 4):
        net.forward()
        images = min(4, 10 - first)
        raw = np.exp(net.blobs["fc"].data[:images].astype(np.float64))
        np.testing.assert_allclose(
            result.scores[first : first + images], raw / raw.sum(1)[:, None], rtol=1e-5
        )
    assert result.labels.tolist() == [k % CLASSES for k in range(10)]
    assert result.names[3] == "0003" and result.images == 10 and result.whole
    assert result.scores.dtype == np.float32
    wrong = (result.scores.argmax(1) != result.labels).mean()
    assert result.errors[1] == pytest.approx(100 * wrong)
    assert sum(error * images for _, images, error in result.class_errors(1)) == pytest.approx(
        1000 * wrong
    )
    assert result.class_name(3) == "class 3" and result.class_name(7) == "7"


@pytest.mark.parametrize(
    "images_at_a_time, waiting_bytes", [(1, 1), (4, 1), (4, 1 << 28), (99, 8000)]
)
def test_dense_scores_are_the_mean_of_each_scale_whatever_the_batch(
    tmp_path, data, monkeypatch, images_at_a_time, waiting_bytes
):
    monkeypatch.setattr(scoring, "PENDING_BYTES", waiting_bytes)
    shutil.rmtree(data / "val_lmdb")  # of several sizes, so that batches are of some images
    mixed = [image[: 16 - 2 * (k % 2), : 20 - k % 3] for k, image in enumerate(IMAGES)]
    write_database(data / "val_lmdb", mixed)
    batch = f"batch_size: {images_at_a_time} "
    run = make_run(tmp_path / "run", data, edit=lambda text: text.replace("batch_size: 4", batch))
    result = measure(ENGINE, str(run), DENSE_TEST)
    param = caffe_pb2.NetParameter()
    text_format.Merge((run / "train_val.prototxt").read_text(), param)
    net = dense.Dense(caffe, param, str(run / "a_iter_7.caffemodel"), (3, CROP, CROP))
    for image, scores in zip(mixed, result.scores, strict=True):
        expected = []
        for side in (14, 18):
            scaled = (validation_set.resized(image, side) - np.float32(100)) * np.float32(0.02)
            expected.append(net.scores(scaled.transpose(2, 0, 1)[None])[0])
        np.testing.assert_allclose(scores, np.mean(expected, 0), rtol=1e-5)


def test_equal_inputs_test_nothing_again(run, forwards):
    first = measure(ENGINE, str(run), CROP_TEST)
    assert len(forwards) == 3, "ten images in batches of four"
    again = measure(ENGINE, str(run), CROP_TEST)
    assert len(forwards) == 3 and again.path == first.path and again.facts == first.facts
    np.testing.assert_array_equal(again.scores, first.scores)
    assert measure(ENGINE, str(run), DENSE_TEST).path != first.path and len(forwards) > 3


def test_a_precision_is_tested_by_itself_and_fp32_is_in_force_again(run, forwards):
    first = measure(ENGINE, str(run), CROP_TEST)
    half = measure(ENGINE, str(run), CROP_TEST, precision="bf16")
    assert half.path != first.path and (first.precision, half.precision) == ("fp32", "bf16")
    difference = np.abs(half.scores - first.scores).max()
    assert 0 < difference < 0.02, "bf16 keeps 8 bits"
    os.remove(first.path)
    np.testing.assert_array_equal(measure(ENGINE, str(run), CROP_TEST).scores, first.scores)


def test_a_moved_run_is_not_tested_again(run, data, tmp_path, forwards):
    measure(ENGINE, str(run), CROP_TEST)
    done = len(forwards)
    shutil.move(data, tmp_path / "elsewhere")
    shutil.copytree(run / "results", make_run(tmp_path / "b", tmp_path / "elsewhere") / "results")
    assert measure(ENGINE, str(tmp_path / "b"), CROP_TEST).images == 10
    assert len(forwards) == done


CHANGES = {
    "weights": lambda run, data: make_run(run, data, seed=6),
    "the crop": lambda run, data: make_run(run, data, edit=lambda t: t.replace("0.02", "0.03")),
    "the net": lambda run, data: make_run(
        run, data, edit=lambda t: t.replace('top: "relu6"', 'top: "fc6"').replace("ReLU", "TanH")
    ),
    "pixels": lambda run, data: replace_database(data, np.roll(IMAGES, 1, axis=1)),
    "labels": lambda run, data: replace_database(data, IMAGES, [1] * 10),
    "one image more": lambda run, data: replace_database(data, draw_images(11)),
    "class names": lambda run, data: (data / "classes.txt").write_text("\n".join("abcdefg")),
}


def replace_database(data, images, labels=None):
    shutil.rmtree(data / "val_lmdb")
    write_database(data / "val_lmdb", images, labels)


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_tested_again(run, data, forwards, change):
    before = measure(ENGINE, str(run), CROP_TEST)
    done = len(forwards)
    CHANGES[change](run, data)
    after = measure(ENGINE, str(run), CROP_TEST)
    assert len(forwards) == done + 3 and after.path != before.path
    assert Result(before.path).facts == before.facts, "the old result stays"
    measure(ENGINE, str(run), CROP_TEST)
    assert len(forwards) == done + 3


def test_another_mean_is_tested_again(run, data, tmp_path, forwards):
    def mean(value):
        blob = caffe_pb2.BlobProto(num=1, channels=3, height=16, width=20, data=[value] * 960)
        (data / "mean.binaryproto").write_bytes(blob.SerializeToString())

    mean(90)
    edit = f'mean_file: "{data}/mean.binaryproto"'
    run = make_run(tmp_path / "m", data, edit=lambda text: text.replace("mean_value: 100", edit))
    one = measure(ENGINE, str(run), CROP_TEST)
    mean(110)
    other = measure(ENGINE, str(run), CROP_TEST)
    assert other.path != one.path and other.data["mean"] != one.data["mean"]
    assert np.abs(other.scores - one.scores).max() > 1e-3


def test_a_limit_never_takes_the_place_of_the_whole(run, forwards):
    part = measure(ENGINE, str(run), Protocol(limit=5))
    assert part.images == 5 and not part.whole and len(forwards) == 2
    assert part.line().endswith("on 5 images, only the first of 10")
    whole = measure(ENGINE, str(run), CROP_TEST)
    assert whole.images == 10 and whole.whole and whole.path != part.path
    assert measure(ENGINE, str(run), Protocol(limit=5)).images == 5
    np.testing.assert_allclose(part.scores, whole.scores[:5], rtol=1e-5)
    done = len(forwards)
    assert measure(ENGINE, str(run), Protocol(limit=10)).path == whole.path, "all are no limit"
    assert measure(ENGINE, str(run), Protocol(limit=99)).path == whole.path
    assert len(forwards) == done


def test_nothing_half_written_is_taken_for_a_result(run, forwards):
    result = measure(ENGINE, str(run), CROP_TEST)
    assert not list((run / "results").glob("*.tmp"))
    Path(result.path).unlink()
    measure(ENGINE, str(run), CROP_TEST)
    assert len(forwards) == 6, "scores without their .json are none"
    Path(result.path).with_suffix(".npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(RelayError, match=r"npz: .*delete .*json and test again"):
        _ = measure(ENGINE, str(run), CROP_TEST).scores


def test_scores_that_are_not_finite_are_never_right(run):
    net = caffe.Net(
        str(run / "train_val.prototxt"), caffe.TEST, weights=str(run / "a_iter_7.caffemodel")
    )
    net.params["fc"][1].data[3] = np.nan
    net.save(str(run / "a_iter_8.caffemodel"))
    for protocol in (CROP_TEST, DENSE_TEST):
        with pytest.raises(RelayError, match=r"run.*a_iter_8.*10 of 10 images are not finite.*000"):
            measure(ENGINE, str(run), protocol)
    assert not (run / "results").exists()
    assert measure(ENGINE, str(run), CROP_TEST, str(run / "a_iter_7.caffemodel")).images == 10


def test_a_label_without_a_score_is_an_error(run, data):
    replace_database(data, IMAGES, [*range(9), 1])
    with pytest.raises(
        RelayError, match=r"'0007' has the label 7, the net scores the classes 0 to 6"
    ):
        measure(ENGINE, str(run), CROP_TEST)


def test_a_branch_that_the_run_left_out_has_no_scores(run, data):
    """The stage of a standard run drops the auxiliary loss, whose layers have no weights."""
    net = run / "train_val.prototxt"
    text = net.read_text().replace("phase: TRAIN\n  }\n}", 'not_stage: "standard"\n  }\n}')
    assert 'not_stage: "standard"' in text
    net.write_text(text)
    assert measure(ENGINE, str(run), Protocol(loss="aux_loss")).images == 10
    with open(run / "solver.prototxt", "a") as file:
        file.write(' test_state { stage: "standard" }')
    assert measure(ENGINE, str(run), CROP_TEST).images == 10
    with pytest.raises(RelayError, match="no SoftmaxWithLoss layer aux_loss"):
        measure(ENGINE, str(run), Protocol(loss="aux_loss"))


def test_progress_says_how_fast_and_how_long(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress("a run", 1000)
    for _ in range(3):
        now[0] += progress.EVERY_S / 2
        shown.count(60)
    shown.close()
    assert capsys.readouterr().err == "a run  120/1000  4.0 images/s  0:03:40 left\n"


@pytest.mark.parametrize("hdf5", [False, True])
def test_weights_of_another_net_are_an_error(run, data, tmp_path, hdf5):
    """Caffe initialises what a file has no weights of: its errors would be those of chance."""
    other = make_run(
        tmp_path / "other",
        data,
        "fully connected",
        edit=lambda text: text.replace('name: "fc"', 'name: "score"'),
    )
    weights = str(other / "a_iter_7.caffemodel")
    if hdf5:
        net = caffe.Net(str(other / "train_val.prototxt"), caffe.TEST, weights=weights)
        weights = str(other / "a_iter_8.caffemodel.h5")
        net.save_hdf5(weights)
        assert measure(ENGINE, str(other), CROP_TEST).weights["file"] == "a_iter_8.caffemodel.h5"
    for protocol in (CROP_TEST, DENSE_TEST):
        with pytest.raises(RelayError, match=r"no weights of fc, fc6 \(2 of the .*another net"):
            measure(ENGINE, str(run), protocol, weights)


# ---- ensembles ---------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_its_members_scores(run, data, tmp_path, forwards):
    other = make_run(tmp_path / "other", data, "pyramid", seed=9)
    members = [Member(str(run), CROP_TEST), Member(str(other), DENSE_TEST)]
    both = ensemble(ENGINE, members, str(tmp_path / "both"))
    done = len(forwards)
    one, two = (measure(ENGINE, *member) for member in members)
    mean = (one.scores.astype(np.float64) + two.scores) / 2
    np.testing.assert_allclose(both.scores, mean, rtol=1e-6)
    assert both.errors[1] == pytest.approx(100 * (mean.argmax(1) != both.labels).mean())
    assert sum(images for _, images, _ in both.class_errors()) == 10
    assert both.path.startswith(str(tmp_path / "both" / "results" / "ensemble-2-"))
    kept = json.loads(Path(both.path).read_text())["members"]
    assert [(m["run"], m["protocol"]) for m in kept] == [
        (str(run), "crop"),
        (str(other), "dense-14-18"),
    ]
    assert kept[0]["weights"] == one.weights and kept[1]["data"] == two.data
    assert ensemble(ENGINE, members, str(tmp_path / "both")).path == both.path
    assert len(forwards) == done, "members and ensemble were kept"
    assert ensemble(ENGINE, [members[0]] * 2, str(tmp_path / "both")).path != both.path


def test_an_ensemble_of_five_with_scales_of_their_own(data, tmp_path):
    tops = ("two", "pyramid", "global pooling", "fully connected", "two")
    protocols = ("14", "14,18", "10-crop", "crop", "18")
    members = [
        Member(str(make_run(tmp_path / f"{k}", data, top, seed=k)), Protocol.parse(protocol))
        for k, (top, protocol) in enumerate(zip(tops, protocols, strict=True))
    ]
    found = ensemble(ENGINE, members, str(tmp_path / "five"))
    mean = np.mean([measure(ENGINE, *member).scores for member in members], 0, dtype=np.float64)
    np.testing.assert_allclose(found.scores, mean, rtol=1e-6)


def test_members_must_have_tested_the_same_images(run, tmp_path):
    def member(name, images, labels=None):
        data = make_data(tmp_path / f"{name}-data", images, labels)
        return Member(str(make_run(tmp_path / name, data)), CROP_TEST)

    first, out = Member(str(run), CROP_TEST), str(tmp_path / "out")
    same = member("same", draw_images(10, seed=3))  # prepared in another way, same list
    assert ensemble(ENGINE, [first, same], out).images == 10
    labels = [k % CLASSES for k in range(10)]
    labels[4] = 6
    with pytest.raises(RelayError, match=r"image 4 is '0004' with label 4 in .*run, and '0004' wi"):
        ensemble(ENGINE, [first, member("labels", IMAGES, labels)], out)
    with pytest.raises(RelayError, match="10 images with 7 classes, .*fewer 9 with 7; every"):
        ensemble(ENGINE, [first, member("fewer", IMAGES[:9])], out)
    with pytest.raises(RelayError, match="an ensemble of 1: expected two"):
        ensemble(ENGINE, [first], out)


# ---- runs fed by SceneData ---------------------------------------------------------------------

DATA_LAYER = re.compile(
    r'layer \{ name: "data" type: "Data"[^}]*phase: TEST.*?LMDB \} \}', re.DOTALL
)


def scene_data(data, mean="mean_value: 100"):
    """An edit of a net: its TEST phase reads the same through SceneData."""
    layer = (
        'layer { name: "data" type: "Python" top: "data" top: "label" include { phase: TEST } '
        'python_param { module: "relaybp.layers.scene_data" layer: "SceneData" param_str: '
        f"'source: \"{data}/val_lmdb\" batch_size: 4 crop_size: 13 scale: 0.02 {mean}' }} }}"
    )
    return lambda text: DATA_LAYER.sub(layer, text)


@pytest.mark.parametrize("text", ["crop", "14,18", "10-crop", "central"])
def test_scene_data_is_tested_as_a_data_layer_is(run, data, tmp_path, text):
    protocol = Protocol.parse(text)
    scenes = make_run(tmp_path / "scenes", data, edit=scene_data(data))
    assert "SceneData" in (scenes / "train_val.prototxt").read_text()
    found, expected = measure(ENGINE, str(scenes), protocol), measure(ENGINE, str(run), protocol)
    assert found.images == 10 and found.labels.tolist() == expected.labels.tolist()
    assert found.data == expected.data
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    both = ensemble(ENGINE, [Member(str(scenes), protocol), Member(str(run), protocol)], str(run))
    np.testing.assert_allclose(both.scores, expected.scores, rtol=1e-5)


def test_the_mean_of_the_crops_pixels_is_subtracted_from_crops(data, tmp_path):
    """Whole images have no mean of their own: there it is resized to their size."""
    mean = np.random.RandomState(2).uniform(60, 140, (3, CROP, CROP)).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=CROP, width=CROP, data=mean.ravel())
    (data / "mean.binaryproto").write_bytes(blob.SerializeToString())
    edit = scene_data(data, f'mean_file: "{data}/mean.binaryproto"')
    run = make_run(tmp_path / "scenes", data, edit=edit)
    param = text_format.Parse((run / "train_val.prototxt").read_text(), caffe_pb2.NetParameter())
    layers, _ = nets.prediction_layers(caffe_pb2, param)
    layers.append(nets.softmax_of(caffe_pb2, "fc"))
    weights = str(run / "a_iter_7.caffemodel")
    net = nets.net_of(caffe, layers, "data", (1, 3, CROP, CROP), weights)

    def scores(crop, mean):
        values = (crop.transpose(2, 0, 1).astype(np.float32) - mean) * np.float32(0.02)
        return nets.run(net, "data", values[None], "prob")[0]

    crops = [image[1:14, 3:16] for image in IMAGES]
    found = measure(ENGINE, str(run), CROP_TEST).scores
    np.testing.assert_allclose(found, [scores(crop, mean) for crop in crops], rtol=1e-5)
    corners = [(0, 2), (0, 5), (3, 2), (3, 5), (1, 3)]  # in the central square, columns 2 to 17
    ten = [
        np.mean(
            [
                scores(image[top : top + 13, left : left + 13][:, ::way], mean)
                for top, left in corners
                for way in (1, -1)
            ],
            0,
        )
        for image in IMAGES
    ]
    found = measure(ENGINE, str(run), Protocol.parse("10-crop")).scores
    np.testing.assert_allclose(found, ten, rtol=1e-5)
    whole = cv2.resize(mean.transpose(1, 2, 0), (16, 13)).transpose(2, 0, 1)
    square = [validation_set.resized(image, 13) for image in IMAGES]
    found = measure(ENGINE, str(run), Protocol.parse("13")).scores  # 13 x 16: two positions
    positions = [[scores(image[:, at : at + 13], whole[..., at : at + 13]) for at in (0, 2)]
                 for image in square]  # fmt: skip
    np.testing.assert_allclose(found, np.mean(positions, 1), rtol=1e-5)
