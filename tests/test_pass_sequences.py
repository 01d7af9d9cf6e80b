"""What a sequence of passes, reads, edits and reshapes shows does not depend on replaying."""

import numpy as np
import pytest

import recorded
from caffe import device
from pass_sequences import NETS, Sequence


@pytest.fixture(params=["fp32", "bf16"], autouse=True)
def precision(request):
    device.set_precision(request.param)
    yield request.param
    device.set_precision("fp32")


def compare(name, seed, length):
    expected = Sequence(NETS[name], seed)
    with recorded.ordinary():
        expected.run(length)
    found = Sequence(NETS[name], seed)
    with recorded.recording_from(seed % 3) as made:
        found.run(length)
    for step, ((operation, mine), (_, theirs)) in enumerate(
        zip(found.shown, expected.shown, strict=True)
    ):
        np.testing.assert_allclose(
            mine, theirs, rtol=2e-3, atol=2e-5, err_msg=f"{name} {seed}: {step}, after {operation}"
        )
    return len(made)


@pytest.mark.parametrize("name", NETS)
def test_some_sequences(name):
    made = sum(compare(name, seed, 25) for seed in range(6))
    assert made >= (0 if name == "fed" else 20)  # its layers in the middle cannot be recorded


@pytest.mark.heavy
@pytest.mark.parametrize("name", NETS)
def test_many_sequences(name):
    for seed in range(6, 100):
        compare(name, seed, 60)
