"""What flows cost on a live BVLC Caffe: the same storage, no more memory than multi-loss."""

import json
from pathlib import Path

import bvlc_caffe
import pytest

pytestmark = pytest.mark.oracle
SCRIPT = Path(__file__).parent / "diff_addresses.py"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured():
    """{method: what diff_addresses.py prints}; its files go where BVLC Caffe can see them."""
    if not bvlc_caffe.prefix():
        pytest.skip("ORACLE_RUN does not say how to run BVLC Caffe")
    folder = ROOT / "build" / "cost"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        method: json.loads(
            bvlc_caffe.run(ROOT, "python3", SCRIPT, "resnet50" + method, folder).splitlines()[-1]
        )
        for method in ("", "_multiloss", "_relay")
    }


def test_every_flow_writes_a_blobs_diff_to_the_same_place(measured):
    first, *others = measured["_relay"]["addresses"]
    assert len(others) == 1, "two flows"
    assert all(other == first for other in others)


def test_relay_takes_no_more_memory_than_multi_loss(measured):
    """To a few pages; the branch itself is seen against the plain net."""
    peaks = {method: found["peak_bytes"] for method, found in measured.items()}
    assert peaks["_multiloss"] > 1.01 * peaks[""]
    assert peaks["_relay"] < 1.005 * peaks["_multiloss"]
