"""relaybp.attach on a live BVLC Caffe: the schedule's own weights, and those of this engine."""

import json
from pathlib import Path

import numpy as np
import pytest

import caffe
import schedule_cases
from nets import AUXILIARY
from relaybp import relay_file

pytestmark = pytest.mark.oracle
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def steps(oracle):
    """({relay file: (weights by attach, weights by the schedule)}, iteration of the example)."""
    folder = ROOT / "build" / "attach"
    folder.mkdir(parents=True, exist_ok=True)
    return json.loads(
        oracle(ROOT, "python3", "tests/oracle/attach_steps.py", folder).splitlines()[-1]
    )


def test_five_steps_on_bvlc_caffe(steps, tmp_path):
    found, iteration = steps
    assert iteration == 51
    assert set(found) == set(schedule_cases.ATTACHED)
    for text, (attached, by_schedule) in found.items():
        assert attached == by_schedule, text
        message = relay_file.parse_relay(text)
        relay = schedule_cases.attach(caffe, str(tmp_path), message, AUXILIARY)
        relay.step(5)
        for name, array in schedule_cases.arrays(relay.net).items():
            np.testing.assert_allclose(
                array, attached[name], rtol=1e-5, atol=1e-5 * np.abs(array).max(), err_msg=name
            )
