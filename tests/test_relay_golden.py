"""The project's driver on this engine against the same driver on BVLC Caffe 1.0.

tests/golden/relay.npz holds what tests/oracle/record_relay.py recorded there: for every parameter
blob the norm of its gradient and some of its values.
"""

from pathlib import Path

import numpy as np
import pytest

import caffe
import relay_cases
from caffe import device

TOLERANCE = 1e-4  # relative to the blob's largest recorded value


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "relay.npz") as file:
        return dict(file)


@pytest.fixture
def brink_free(name):
    """fp64 for ResNet-50.

    Among its millions of values some lie where a ReLU switches. In fp32 the order of a sum, and
    so the number of threads, decides such a ReLU, and every gradient below moves by some 1e-3.
    """
    device.set_precision("fp64" if name.startswith("resnet50") else "fp32")
    yield
    device.set_precision("fp32")


@pytest.mark.usefixtures("brink_free")
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "ranges"])
@pytest.mark.parametrize("name", relay_cases.CASES)
def test_gradients_and_losses_are_those_of_bvlc_caffe(golden, tmp_path, name, fused):
    gradients, losses = relay_cases.gradients(caffe, name, str(tmp_path), fused)
    recorded = {key.partition("/")[2] for key in golden if key.startswith(name + "/")}
    assert recorded == set(gradients) | {"loss/" + key for key in losses}
    for key, value in losses.items():
        assert value == pytest.approx(float(golden[f"{name}/loss/{key}"]), rel=1e-5)
    worst = {}
    for key, array in gradients.items():
        theirs = golden[f"{name}/{key}"]
        if np.abs(theirs).max() == 0:
            assert np.abs(array).max() == 0, f"{key} gets no gradient in BVLC Caffe"
            continue
        mine = relay_cases.digest(array)
        worst[key] = max(abs(mine[0] / theirs[0] - 1),
                         np.abs(mine[1:] - theirs[1:]).max() / np.abs(theirs[1:]).max())
    key = max(worst, key=worst.get)
    assert worst[key] < TOLERANCE, f"{key}: {worst[key]:.2e}"
