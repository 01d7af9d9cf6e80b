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


def compare(name, seed, run):
    """Run a sequence without and with replay; return how many passes were recorded."""
    with recorded.ordinary():
        run(expected := Sequence(NETS[name], seed))
    with recorded.recording_from(seed % 3) as made:
        run(found := Sequence(NETS[name], seed))
    for step, ((operation, mine), (_, theirs)) in enumerate(
        zip(found.shown, expected.shown, strict=True)
    ):
        np.testing.assert_allclose(
            mine, theirs, rtol=2e-3, atol=2e-5, err_msg=f"{name} {seed}: {step}, after {operation}"
        )
    return len(made)


@pytest.mark.parametrize("operation", Sequence.operations)
@pytest.mark.parametrize("name", NETS)
def test_each_operation_among_iterations(name, operation):
    for seed in (0, 1):
        compare(name, seed, lambda sequence: sequence.follow((["do_train"] * 3 + [operation]) * 3))


@pytest.mark.parametrize("name", ["block", "branches", "fed"])
def test_forward_in_the_same_two_parts_again_and_again(name):
    def run(sequence):
        net = sequence.net
        cut = cuts[sequence.seed]
        for _ in range(8):
            sequence.do_fill()
            net.clear_param_diffs()
            net._forward(0, cut - 1)
            net._forward(cut, sequence.last)
            net._backward(sequence.last, 0)
            sequence.do_look()

    cuts = range(1, len(Sequence(NETS[name], 0).net.layers))
    for seed in range(len(cuts)):
        compare(name, seed, run)


@pytest.mark.parametrize("name", ["block", "branches"])
def test_reshape_there_and_back_between_passes(name):
    def run(sequence):
        for _ in range(3):
            sequence.follow(["do_train"] * 4)
            for factor in (3, 1):
                for blob in [sequence.net.blobs[name] for name in sequence.net.inputs]:
                    blob.reshape(factor * 3, *blob.shape[1:])
                if name == "block":  # the other holds one shape as a parameter
                    sequence.net.reshape()

    for seed in range(3):
        compare(name, seed, run)


def test_a_learnt_parameter_whose_array_is_held():
    def run(sequence):
        held = [sequence.net.blobs["learnt"].data, sequence.net.params["learnt"][0].data]
        for _ in range(8):
            sequence.do_train()
            sequence.do_look()
            for array in held:
                sequence._show(array)

    for seed in range(3):
        compare("branches", seed, run)


@pytest.mark.parametrize("name", NETS)
def test_some_sequences(name):
    made = sum(compare(name, seed, lambda sequence: sequence.run(25)) for seed in range(4))
    assert made >= (0 if name == "fed" else 15)  # its layers in the middle cannot be recorded


@pytest.mark.heavy
@pytest.mark.parametrize("name", NETS)
def test_many_sequences(name):
    for seed in range(4, 100):
        compare(name, seed, lambda sequence: sequence.run(60))
