"""Five classic nets, made small, train as in BVLC Caffe: the same losses for as long as single
precision keeps two runs the same, and similar ones after that.

NET/disturbed is BVLC Caffe's own curve when each weight starts off by one part in ten million:
a ReLU that such a difference switches over changes the losses by far more than rounding.
"""

from pathlib import Path

import numpy as np
import pytest

from tests import training_cases

GOLDEN = Path(__file__).parent / "golden" / "training.npz"
SAME_STEPS, LAST_STEPS = 20, 30
TOLERANCE = 0.05  # of the mean of the last losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("databases")
    training_cases.write_databases(made)
    return made


@pytest.mark.parametrize("name", training_cases.CASES)
def test_trains_as_in_caffe(folder, name):
    with np.load(GOLDEN) as recorded:
        caffes, disturbed = recorded[name], recorded[f"{name}/disturbed"]
    assert caffes.shape[0] == training_cases.STEPS == 100
    np.testing.assert_allclose(disturbed[:SAME_STEPS], caffes[:SAME_STEPS], rtol=1e-3)
    found = training_cases.losses(name, folder)
    np.testing.assert_allclose(found[:SAME_STEPS], caffes[:SAME_STEPS], rtol=1e-3)
    last, caffes_last, disturbed_last = (
        curve[-LAST_STEPS:].mean(0) for curve in (found, caffes, disturbed)
    )
    assert (caffes_last < 0.9 * caffes[:10].mean(0)).all()  # the net learns
    np.testing.assert_allclose(disturbed_last, caffes_last, rtol=TOLERANCE)
    np.testing.assert_allclose(last, caffes_last, rtol=TOLERANCE)
