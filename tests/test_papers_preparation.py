"""The papers' image preparation by the commands of data_prep/README.md, from archives to a test.

JPEGs of several sizes, in ImageNet's archives; a shorter side of 256, the mean of the central 224,
colours; a ResNet-50 trained and tested on them.
"""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe.files.datum import decode_datum
from caffe.files.text import read_text
from caffe.proto import caffe_pb2
from relaybp.data_prep.scenes import draw
from tests import archive_cases as archives
from tests import relay_cases
from tests.data_images import records

ROOT = Path(__file__).parent.parent
SIZES = ((500, 375), (333, 500), (256, 256), (300, 640))  # width, height
SHORT = {(256, 341), (384, 256), (256, 256), (546, 256)}  # height, width: the shorter side 256
KINDS = dict(zip(archives.SYNSETS, ("beach", "forest", "city_night"), strict=True))
SMALL = [
    "--gpu",
    "none",
    "--batch",
    "2",
    "--set",
    "max_iter=2",
    "--set",
    "iter_size=1",
    "--set",
    "base_lr=0.001",
]


def documented():
    """The commands of the README's section on ImageNet, each as one line."""
    text = (ROOT / "data_prep" / "README.md").read_text()
    section = text.split("\n## ImageNet\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.S | re.M)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def jpeg(synset, seed):
    """A drawn scene of the synset's kind, of one of several sizes."""
    picture = draw(KINDS[synset], np.random.RandomState(seed))
    size = SIZES[seed % len(SIZES)]
    return cv2.imencode(".jpg", cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))[1]


def write_archives(folder):
    """ImageNet's three files, with three synsets."""
    tars = {
        f"{synset}.tar": archives.tar(
            {
                f"{synset}_{10 * k}.JPEG": jpeg(synset, 10 * label + k).tobytes()
                for k in range(count)
            }
        )
        for label, (synset, count) in enumerate(archives.SYNSETS.items())
    }
    val = {
        archives.val_name(k): jpeg(synset, 90 + k).tobytes()
        for k, synset in enumerate(archives.VAL, 1)
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(archives.tar(tars))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(archives.tar(val))
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(archives.development_kit())


def run(folder, line, *more):
    """Run a command of the README in `folder`; what it printed."""
    python = {"python": [sys.executable], "relay": [sys.executable, "-m", "relaybp"]}
    name, *words = line.split()
    if words[0].startswith("data_prep/"):
        words[0] = str(ROOT / words[0])
    done = subprocess.run(
        [*python[name], *words, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder where the README's commands for ImageNet have run, up to the training."""
    folder = tmp_path_factory.mktemp("imagenet")
    (folder / "DATA").mkdir()
    write_archives(folder)
    for line in documented():
        if not line.startswith("relay evaluate"):
            run(folder, line, *(SMALL if "relay train" in line else ()))
    return folder


def mean_image(folder):
    blob = caffe_pb2.BlobProto.FromString((folder / "DATA" / "mean.binaryproto").read_bytes())
    return caffe.io.blobproto_to_array(blob)[0]


def test_the_records_keep_their_proportions(trained):
    shapes = {
        decode_datum(value, key).shape[1:]
        for key, value in records(trained / "DATA" / "train_lmdb").items()
    }
    assert shapes == SHORT
    assert mean_image(trained).shape == (3, 224, 224)


def test_the_test_of_the_run_is_that_of_centre_crops_less_the_mean(trained):
    """Loss and accuracy of the snapshot, by hand: decoded, cropped, less the mean, forward."""
    with open(trained / "RUN" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "test"]
    found = {row["name"]: float(row["value"]) for row in rows}
    images, labels = [], []
    for key, value in sorted(records(trained / "DATA" / "val_lmdb").items()):
        pixels = decode_datum(value, key).astype(np.float32)
        top, left = ((side - 224) // 2 for side in pixels.shape[1:])
        images.append(pixels[:, top : top + 224, left : left + 224] - mean_image(trained))
        labels.append(caffe_pb2.Datum.FromString(value).label)
    param = read_text(str(trained / "RUN" / "train_val.prototxt"), caffe_pb2.NetParameter())
    net = caffe.Net(relay_cases.with_inputs(caffe_pb2, param, len(images), 224), caffe.TEST)
    net.copy_from(str(trained / "RUN" / "resnet50_relay_iter_2.caffemodel"))
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images, labels
    expected = net.forward()
    assert sorted(labels) == [0, 0, 1, 2]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-4), name


def test_the_run_is_evaluated_as_it_was_tested(trained):
    pytest.importorskip("relaybp.evaluation.results")  # reads what SceneData feeds
    with open(trained / "RUN" / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "accuracy_top1"]
    error = 100 * (1 - float(rows[-1]["value"]))
    printed = run(trained, documented()[-1], "--gpu=none")
    assert f"top-1 error {error:.2f} % on 4 images" in printed
