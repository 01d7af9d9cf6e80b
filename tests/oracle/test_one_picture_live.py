"""BVLC Caffe reads the databases of photos that this repository's tools make."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import picture_cases as cases
from caffe.proto import caffe_pb2
from relaybp.data_prep.convert_imageset import convert
from test_one_picture import bvlc

pytestmark = pytest.mark.oracle
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "picture"  # below ROOT, which is what BVLC Caffe sees
SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import caffe, numpy, picture_cases
folder = {str(FOLDER)!r}
text = picture_cases.data_layer("Data", folder)
numpy.save(folder + "/scores.npy", picture_cases.scores(caffe, folder + "/net.prototxt", text))
"""


@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "encoded"])
@pytest.mark.parametrize("orientation", cases.ORIENTATIONS)
def test_bvlc_caffe_sees_the_upright_picture(oracle, orientation, encoded):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "x.jpg").write_bytes(bvlc(orientation, "photo").tobytes())
    (FOLDER / "list.txt").write_text("x.jpg 0\n")
    cases.write_mean(caffe_pb2, FOLDER / "mean")
    convert(f"{FOLDER}/", FOLDER / "list.txt", FOLDER / "db", encoded=encoded)
    oracle(ROOT, "python3", "-c", SCRIPT)
    found = np.load(FOLDER / "scores.npy")
    np.testing.assert_allclose(found, bvlc(orientation, "raw"), atol=1e-5)
