"""BVLC Caffe trains a model on the papers' image preparation, by SceneData and by its own layer."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bvlc_caffe
import pytest

from tests.data_folders import write_folder

pytestmark = pytest.mark.oracle
ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("build") / "preparation"  # below ROOT, which is what BVLC Caffe sees
PATHS = f"{ROOT}/python:{ROOT}"
THEIRS = ["env", f"PYTHONPATH={PATHS}", "CAFFE_ROOT=/usr/lib/python3/dist-packages", "python3"]
TRAIN = [
    *("-m", "relaybp", "train", "--model", "resnet50", "--data", str(FOLDER / "data")),
    *("--gpu", "none", "--batch", "3"),
    *("--set", "max_iter=1", "--set", "iter_size=1", "--set", "base_lr=0.001"),
]
START = [
    *("--weights", str(FOLDER / "start" / "resnet50_relay_iter_1.caffemodel")),
    *("--set", "test_initialization=true"),
]
# The draws of a SceneData layer are those of its seed on either engine; what it resizes differs by
# a rounding in another OpenCV.
SEEDED = ["--scene", "seed=7", "--scene", "short_side_min=0", "--scene", "short_side_max=0"]
MEAN_OF_THE_CROP = """
layer { name: "data" type: "Data" top: "data" top: "label"
        transform_param { crop_size: 224 mean_file: "%s/data/mean.binaryproto" }
        data_param { source: "%s/data/val_lmdb" batch_size: 1 backend: LMDB } }
"""


@pytest.fixture(scope="module")
def start():
    """The data folder and weights to start from."""
    if not bvlc_caffe.prefix():
        pytest.skip("ORACLE_RUN does not say how to run BVLC Caffe")
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    write_folder(ROOT / FOLDER / "data")
    here("start")


def here(run, *more):
    """Train with this engine into FOLDER/run."""
    subprocess.run(
        [sys.executable, *TRAIN, *more, "--out", str(FOLDER / run)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PATHS},
        check=True,
        capture_output=True,
    )


def values(run):
    """{(kind, iteration, name): value} that a run has measured."""
    with open(ROOT / FOLDER / run / "metrics.csv", newline="") as file:
        return {
            (row["kind"], row["iteration"], row["name"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["name"] in ("loss", "accuracy_top1")
        }


@pytest.mark.parametrize(
    ("name", "feed", "compared"),
    [
        ("scene", SEEDED, {("train", "1"), ("test", "0")}),
        ("data", ["--feed", "data"], {("test", "0")}),
    ],
)
def test_both_engines_measure_the_same(oracle, start, name, feed, compared):
    here(name, *START, *feed)
    oracle(ROOT, *THEIRS, *TRAIN, *START, *feed, "--out", FOLDER / f"bvlc_{name}")
    expected = {key: value for key, value in values(f"bvlc_{name}").items() if key[:2] in compared}
    assert {key[:2] for key in expected} == compared
    for key, value in expected.items():
        assert values(name)[key] == pytest.approx(value, rel=1e-3), key


def test_it_refuses_what_only_this_engine_has(oracle, start):
    with pytest.raises(RuntimeError, match="an original Caffe has no lr_policy: use this repo"):
        oracle(ROOT, *THEIRS, *TRAIN, "--set", "lr_policy=cosine", "--out", FOLDER / "cosine")


def test_its_data_layer_refuses_the_mean_of_the_crop(oracle, start):
    """Which is why the Data layers of the models subtract a mean per channel."""
    net = FOLDER / "net.prototxt"
    (ROOT / net).write_text(MEAN_OF_THE_CROP % (FOLDER, FOLDER))
    script = f"import caffe; caffe.Net('{net}', caffe.TEST).forward()"
    with pytest.raises(RuntimeError, match=r"Check failed: datum_height == data_mean_\.height\(\)"):
        oracle(ROOT, "python3", "-c", script)
