"""Every example runs, and what it says is so."""

import re
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/*.py"))


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Runs a script of a folder of examples; returns its names as an object's attributes."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)

    def run(script, *options):
        out = () if "--out" not in (EXAMPLES / script).read_text() else ("--out", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [script, *options, *out])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="matplotlib|pyparsing")
            return type("Ran", (), runpy.run_path(str(EXAMPLES / script), run_name="example"))

    return run


def test_classification(example, tmp_path):
    pytest.importorskip("matplotlib")
    ran = example("00-classification/classification.py")
    assert ran.CLASSES[ran.probabilities.argmax()] == "beach" and ran.right >= 0.8
    seen = ran.transformer.deprocess("data", ran.net.blobs["data"].data[0])
    assert np.abs(seen - ran.caffe.io.resize_image(ran.photo, (48, 48))).max() < 1e-5
    assert ran.filters.shape == (5 * 8, 5 * 8, 3) and ran.activations.shape == (5 * 22, 5 * 22)
    assert (tmp_path / "inside.png").stat().st_size > 10_000


def test_learning_lenet(example, tmp_path):
    pytest.importorskip("matplotlib")
    ran = example("01-learning-lenet/learning_lenet.py", "--iterations", "75")
    assert abs(ran.first_loss - np.log(10)) < 0.3 and ran.first_gradients.any()
    assert list(ran.accuracies) == [25, 50, 75] and ran.accuracies[75] > 0.85
    assert len(ran.losses) == 75 and np.mean(ran.losses[-10:]) < ran.losses[0] / 3
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_fine_tuning(example):
    ran = example("02-fine-tuning/fine_tuning.py")
    scratch, alone, tuned = ran.results.values()
    assert min(alone, tuned) > scratch + 0.05 and tuned > 0.9
    before, after = (ran.runs[name].net.params["conv1"][0].data for name in list(ran.runs)[1:])
    np.testing.assert_array_equal(before, ran.frozen)
    assert not np.array_equal(after, ran.frozen)


def test_net_surgery(example):
    ran = example("net_surgery/net_surgery.py")
    inner = ran.photo.astype(float)
    blur = sum(inner[y : 126 + y, x : 126 + x] for y in range(3) for x in range(3)) / 9
    np.testing.assert_allclose(ran.blurred[1:-1, 1:-1], blur, atol=1e-3)
    across = sum(
        w * inner[y : 126 + y, 2:] - w * inner[y : 126 + y, :126] for y, w in enumerate((1, 2, 1))
    )
    np.testing.assert_allclose(ran.gradients[0][1:-1, 1:-1], across, atol=1e-2)
    np.testing.assert_allclose(ran.brighter - ran.blurred, 100, atol=1e-3)
    assert ran.right > 0.85 and ran.read.tolist() == [7, 4, 1] and ran.found.shape == (10, 15)


def test_multilabel(example):
    ran = example("multilabel/multilabel.py")
    assert ran.accuracy > 0.9 > ran.by_saying_no + 0.2
    assert set(np.unique(ran.labels)) == {0, 1} and ran.labels.shape == (200, 4)


def test_relay_from_scratch(example):
    ran = example("relay_from_scratch/relay_from_scratch.py", "--iterations", "20")
    of = ran.gradients
    for name in ran.CONVS[1:3]:  # both losses
        np.testing.assert_allclose(of["relay"][name], of["joint"][name], rtol=1e-4, atol=1e-6)
    for name in ran.CONVS[3:]:  # the primary loss alone, by every method
        np.testing.assert_allclose(of["relay"][name], of["standard"][name], rtol=1e-4, atol=1e-6)
    by_auxiliary = of["joint"]["conv1"] - of["standard"]["conv1"]
    np.testing.assert_allclose(of["relay"]["conv1"], by_auxiliary, rtol=1e-3, atol=1e-5)
    assert min(ran.results.values()) > 1.5 / 8


def test_old_project(example):
    onnxruntime = pytest.importorskip("onnxruntime")
    ran = example("old_project/old_project.py")
    np.testing.assert_array_equal(ran.as_it_is, ran.upgraded)
    assert not ran.new.layers and [layer.type for layer in ran.new.layer][:2] == [
        "Input",
        "Convolution",
    ]
    assert ran.new.layer[1].convolution_param.pad == [2]  # the layer "padding" has gone
    session = onnxruntime.InferenceSession(ran.ONNX, providers=["CPUExecutionProvider"])
    (found,) = session.run(["prob"], {"data": ran.images})
    np.testing.assert_allclose(found, ran.as_it_is, atol=1e-5)


def test_no_example_is_left_out():
    """own_layer: test_extend; ssd: test_ssd_example; others are imported by those."""
    named = re.findall(r'example\("([^"]+)"', Path(__file__).read_text())
    elsewhere = {"own_layer/own_layer.py", "ssd/ssd.py"}
    imported = {"multilabel/shapes_layer.py", "ssd/detection.py", "ssd/trunks.py"}
    assert {*named, *elsewhere, *imported} == set(SCRIPTS)
    listed = re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text())
    assert {*listed} >= {*named, *elsewhere, "slurm/train.sh"}
