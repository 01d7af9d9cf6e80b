"""The project's driver on this engine against the same driver on BVLC Caffe 1.0.

tests/golden/relay.npz holds what tests/oracle/record_relay.py recorded there: for every parameter
blob the norm of its gradient, the largest of its values, and some of them.
"""

from pathlib import Path

import numpy as np
import pytest

import caffe
import relay_cases
from caffe import device

pytestmark = pytest.mark.usefixtures("project_layers")

TOLERANCE = 1e-4  # relative to the layer's largest gradient


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "relay.npz") as file:
        return dict(file)


@pytest.fixture(autouse=True)
def own_rounding_left_out(name):
    """fp64 for whole networks: what then differs is BVLC Caffe's rounding alone."""
    device.set_precision("fp32" if name.startswith("branched") else "fp64")
    yield
    device.set_precision("fp32")


def cases():
    """(name, fused); whole networks once in the ordinary suite, the baselines not at all."""
    for name in relay_cases.CASES:
        for fused in (True, False):
            light = name.startswith("branched") or (name.endswith("_relay") and fused)
            yield pytest.param(
                name,
                fused,
                id=f"{name}-{'fused' if fused else 'ranges'}",
                marks=() if light else pytest.mark.heavy,
            )


@pytest.mark.parametrize("name, fused", list(cases()))
def test_gradients_and_losses_are_those_of_bvlc_caffe(golden, tmp_path, name, fused):
    gradients, losses = relay_cases.gradients(caffe, name, str(tmp_path), fused)
    recorded = dict(zip(golden[f"{name}/losses"], golden[f"{name}/loss"], strict=True))
    assert losses == pytest.approx(recorded, rel=1e-5)
    recorded = dict(zip(golden[f"{name}/blobs"], golden[f"{name}/digests"], strict=True))
    assert set(recorded) == set(gradients)
    worst = {}
    for key, theirs in recorded.items():
        mine = relay_cases.digest(gradients[key])
        # a bias below a BatchNorm gets only rounding, so its layer is the measure
        norm, largest = np.max(
            [
                row[:2]
                for other, row in recorded.items()
                if other.partition("[")[0] == key.partition("[")[0]
            ],
            axis=0,
        )
        if norm == 0:
            assert mine[0] == 0, f"{key} gets no gradient in BVLC Caffe"
        else:
            worst[key] = np.abs((mine - theirs) / [norm, *[largest] * (len(mine) - 1)]).max()
    key = max(worst, key=worst.get)
    assert worst[key] < TOLERANCE, f"{key}: {worst[key]:.2e}"
