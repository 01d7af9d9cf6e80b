"""Testing as the papers do: all positions, several scales, ensembles, errors by class."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from relaybp.errors import RelayError
from relaybp.evaluation import dense, measures, validation_set

ROOT = Path(__file__).parent.parent
CROP, STRIDE = 13, 2
HEAD = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 13 mean_value: 100 scale: 0.02 }
        data_param { source: "DATA/train_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 13 mean_value: 100 scale: 0.02 }
        data_param { source: "DATA/val_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 6 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
"""
TAIL = """
layer { name: "fc" type: "InnerProduct" bottom: "BOTTOM" top: "fc"
        inner_product_param { num_output: 7 weight_filler { type: "msra" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "aux_loss"
        include { phase: TRAIN } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
        include { phase: TEST } }
"""
# what is between the 6 x 6 map and the scores: all windows of that size are positions
TOPS = {
    "fully connected": TAIL.replace("BOTTOM", "conv1"),
    "two": """layer { name: "fc6" type: "InnerProduct" bottom: "conv1" top: "fc6"
        inner_product_param { num_output: 9 weight_filler { type: "msra" } } }
        layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
        layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }
        """
    + TAIL.replace("BOTTOM", "fc6"),
    "global pooling": """layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool"
        pooling_param { pool: AVE global_pooling: true } }
        """
    + TAIL.replace("BOTTOM", "pool"),
    "pyramid": """layer { name: "spp1" type: "Pooling" bottom: "conv1" top: "spp1"
        pooling_param { pool: MAX kernel_size: 6 stride: 6 } }
        layer { name: "flat1" type: "Flatten" bottom: "spp1" top: "flat1" }
        layer { name: "spp4" type: "Pooling" bottom: "conv1" top: "spp4"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "flat4" type: "Flatten" bottom: "spp4" top: "flat4" }
        layer { name: "spp" type: "Concat" bottom: "flat1" bottom: "flat4" top: "spp" }
        """
    + TAIL.replace("BOTTOM", "spp"),
}


def net_param(top="two", data="data"):
    return text_format.Parse(
        (HEAD + TOPS[top]).replace("DATA", str(data)), caffe_pb2.NetParameter()
    )


@pytest.fixture
def weights(tmp_path):
    """Makes a .caffemodel with seeded weights for a net."""

    def make(param):
        layers, _ = dense.prediction_layers(caffe_pb2, param)
        caffe.set_random_seed(5)
        net = dense._net(caffe, layers, "data", (1, 3, CROP, CROP), None)
        net.save(str(tmp_path / "a.caffemodel"))
        return str(tmp_path / "a.caffemodel")

    return make


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("top", TOPS)
def test_scores_are_the_mean_over_all_crops(weights, top, step):
    """Without padding a position of the map is a crop: the plain net on each is the truth."""
    param, image = net_param(top), np.random.RandomState(1).randn(3, 18, 21).astype(np.float32)
    path = weights(param)
    found = dense.Dense(caffe, param, path, CROP, step=step).scores(image)
    layers, scores = dense.prediction_layers(caffe_pb2, param)
    plain = dense._net(caffe, layers, "data", (1, 3, CROP, CROP), path)
    crops = []
    for y in range(0, 18 - CROP + 1, STRIDE * step):
        for x in range(0, 21 - CROP + 1, STRIDE * step):
            plain.blobs["data"].data[...] = image[:, y : y + CROP, x : x + CROP]
            plain.forward()
            each = np.exp(plain.blobs[scores].data.ravel().astype(np.float64))
            crops.append(each / each.sum())
    assert len(crops) == {1: 15, 2: 6}[step]
    np.testing.assert_allclose(found, np.mean(crops, 0), rtol=1e-5)


def test_the_training_crop_gives_one_position(weights):
    param = net_param()
    net = dense.Dense(caffe, param, weights(param), CROP)
    assert net.cut == "conv1" and net.window == (6, 6, 6)
    assert net.scores(np.zeros((3, CROP, CROP), np.float32)).sum() == pytest.approx(1)
    with pytest.raises(RelayError, match=r"12 x 20 pixels; the net was trained on 13 x 13"):
        net.scores(np.zeros((3, 12, 20), np.float32))


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
    layers, scores = dense.prediction_layers(
        caffe_pb2, text_format.Parse(text, caffe_pb2.NetParameter())
    )
    assert dense.cut(layers, scores)[1] == blob
    assert not any(layer.name.startswith("aux") for layer in layers)


def test_what_cannot_be_cut_says_why(weights):
    param = net_param()
    with pytest.raises(RelayError, match="no SoftmaxWithLoss layer los "):
        dense.prediction_layers(caffe_pb2, param, "los")
    layers, _ = dense.prediction_layers(caffe_pb2, param)
    with pytest.raises(RelayError, match="no layer below 'conv1' asks for one size"):
        dense.cut(layers[:2], "conv1")


def test_images_are_resized_by_their_shorter_side():
    image = np.full((30, 60, 3), (10, 20, 30), np.uint8)
    found = validation_set.scaled(image, 15, np.array([1, 2, 3]), 0.5)
    assert found.shape == (3, 15, 30) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0, 0], [4.5, 9, 13.5])


def test_errors_by_hand():
    scores = np.array(
        [[5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [1, 1, 1, 1, 1, 1]]
    )
    labels = np.array([0, 4, 5, 5])
    assert measures.ranks(scores, labels).tolist() == [0, 4, 5, 5], "a tie speaks against the net"
    assert measures.errors(scores, labels) == {1: 75.0, 5: 50.0}
    assert measures.errors(scores[:, :3], np.zeros(4, int)) == {1: 25.0}, "5 of 3 are all"
    assert measures.class_errors(scores, labels) == [(0, 1, 0.0), (4, 1, 0.0), (5, 2, 100.0)]


def test_an_ensemble_is_the_mean_of_scores():
    one, other = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.2, 0.8], [0.4, 0.6]])
    labels = np.array([0, 1])
    scores, _ = measures.ensemble([(one, labels), (other, labels)])
    np.testing.assert_allclose(scores, [[0.55, 0.45], [0.4, 0.6]])
    with pytest.raises(RelayError, match="every member must test the same database"):
        measures.ensemble([(one, labels), (one, labels[::-1])])


# ---- the tool ----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, weights):
    """A run's folder: net, solver and snapshot, and a database of 10 encoded images."""
    (tmp_path / "classes.txt").write_text("".join(f"class {k}\n" for k in range(7)))
    random = np.random.RandomState(0)
    with (
        lmdb.open(str(tmp_path / "val_lmdb"), map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index in range(10):
            pixels = random.randint(0, 255, (16, 20, 3)).astype(np.uint8)
            datum = caffe_pb2.Datum(
                label=index % 7, encoded=True, data=cv2.imencode(".png", pixels)[1].tobytes()
            )
            transaction.put(b"%04d" % index, datum.SerializeToString())
    param = net_param("two", tmp_path)
    (tmp_path / "train_val.prototxt").write_text(text_format.MessageToString(param))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/train_val.prototxt" test_iter: 3 test_interval: 1 base_lr: 1'
    )
    os.rename(weights(param), tmp_path / "a_iter_7.caffemodel")
    return tmp_path


def evaluate(*arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "evaluate.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert f"top-1 error {10 * wrong:.2f} %, top-5 error" in text and "on 10 images" in text
    (first, second) = rows(run / "errors.csv")
    assert (first["test"], first["k"], first["error"]) == ("crop", "1", f"{10 * wrong:.2f}")
    assert second["weights"] == "a_iter_7.caffemodel"
    classes = rows(run / "per_class_crop.csv")
    assert sorted(row["class"] for row in classes) == [f"class {k}" for k in range(7)]
    assert sum(int(row["images"]) for row in classes) == 10


def test_scales_are_averaged_and_an_ensemble_of_two_equals_is_each(run):
    text = evaluate(run, run, "--scales", "14,18", "--limit", "3").splitlines()
    assert text[2].partition(":")[0] == "ensemble of 2"
    assert len({each.partition(":")[2] for each in text}) == 1
    assert text[0].endswith("on 3 images")
    saved = np.load(run / "scores_14-18.npz")
    param = net_param("two", run)
    net = dense.Dense(caffe, param, str(run / "a_iter_7.caffemodel"), CROP)
    image, label = next(validation_set.read(caffe, str(run / "val_lmdb")))
    expected = np.mean(
        [
            net.scores(validation_set.scaled(image, side, np.array([100.0]), 0.02))
            for side in (14, 18)
        ],
        0,
    )
    np.testing.assert_allclose(saved["scores"][0], expected, rtol=1e-4)
    assert saved["labels"][0] == label and saved["scores"].shape == (3, 7)
