"""Replayed passes do what ordinary passes do, whatever happens between them.

On a GPU with CUDA graphs, elsewhere with recordings of PyTorch's operators instead.
"""

import contextlib

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import recorded
import relay_cases
from caffe import device
from caffe.proto import caffe_pb2
from relaybp import backward, flows

pytestmark = pytest.mark.usefixtures("project_layers")


@pytest.fixture
def replays():
    """Switch between replaying, True, and running every time, False; gives the recordings."""
    with contextlib.ExitStack() as stack:

        def switch(on):
            stack.close()
            return stack.enter_context(recorded.recording_from(2) if on else recorded.ordinary())

        yield switch


def relay_solver(folder, name="branched_relay"):
    caffe.set_random_seed(3)
    path, relay, param = relay_cases.prepare(caffe, name, str(folder))
    solver = caffe.get_solver(path)
    relay_cases.fill(solver.net, decided=True)
    run = backward.Fused(solver.net, flows.plan(solver.net, relay, param))
    return solver, run


def train(solver, run, steps, between=None):
    """[losses], and every parameter afterwards; a new batch for each step."""
    net, losses = solver.net, []
    for step in range(steps):
        net.blobs["data"].data[...] = np.random.RandomState(step).randn(*net.blobs["data"].shape)
        net.clear_param_diffs()
        losses.append(net._forward(0, len(net.layers) - 1))
        run()
        if between:
            between(solver, step)
        solver.apply_update()
    return np.array(losses), [blob.data.copy() for blobs in net.params.values() for blob in blobs]


def assert_equal(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def both(replays, make, *args):
    """What `train` gives without and with replaying; the latter has made recordings."""
    results = []
    for on in (False, True):
        count = replays(on)
        solver, run = make()
        results.append(train(solver, run, *args))
    assert len(count) >= 2  # of forward and of backward
    return results


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ["branched_relay", "branched_inside_a_block", "resnet20_relay"])
def test_training(replays, tmp_path, name, keep):
    def make():
        solver, run = relay_solver(tmp_path, name)
        solver.net.keep_blobs = solver.net.keep_diffs = keep
        return solver, run

    assert_equal(*both(replays, make, 7))


def look(solver, step):
    """Read all that can be read; on a GPU that hands out copies, which count as newer."""
    for blob in solver.net.blobs.values():
        assert np.isfinite(blob.data).all() and np.isfinite(blob.diff).all()


_held = []


def hold(solver, step):
    """Keep arrays of all that can be read, which must show each pass and each update."""
    net = solver.net
    if step == 0:
        _held[:] = [
            (blob, what, getattr(blob, what))
            for blob in [*net.blobs.values(), *(b for blobs in net.params.values() for b in blobs)]
            for what in ("data", "diff")
        ]
    for blob, what, array in _held:
        array = array.copy()  # to ask for the tensor may bring the array up to date
        tensor = blob.tensor if what == "data" else blob.diff_tensor
        np.testing.assert_array_equal(array, tensor.cpu().numpy())


def write_held(solver, step):
    """Write into an array of weights that is held since the first step."""
    if step == 0:
        _held[:] = [solver.net.params["conv1"][0].data]
    _held[0].reshape(-1)[:] *= np.float32(1.01)


def change_weights(solver, step):
    solver.net.params["conv1"][0].data[...] *= 1.01


def put_weights(solver, step):
    blob = solver.net.params["conv1"][0]
    blob.tensor = blob.tensor * 1.01


def forward_again(solver, step):
    """As a test of the net itself would: other batches, other layers' states."""
    net = solver.net
    before = net.blobs["data"].data.copy()
    net.blobs["data"].data[...] = 0
    net.forward()
    net.blobs["data"].data[...] = before
    net.forward(end="conv1")
    net.forward()


def count_layers(solver, step):
    """A callback while it is there: every layer runs by itself, once."""
    seen = []
    solver.net.before_forward(seen.append)
    solver.net.forward()
    assert seen == list(range(len(solver.net.layers)))
    solver.net._callbacks["before_forward"].clear()


def another_shape(solver, step):
    net, shape = solver.net, solver.net.blobs["data"].shape
    if step == 4:
        net.blobs["data"].reshape(2, *shape[1:])
        net.blobs["label"].reshape(2)
        net.forward()
        net.blobs["data"].reshape(*shape)
        net.blobs["label"].reshape(shape[0])
        net.blobs["label"].data[...] = [0, 3, 4, 1]


@pytest.mark.parametrize(
    "between",
    [
        look,
        hold,
        write_held,
        change_weights,
        put_weights,
        forward_again,
        count_layers,
        another_shape,
    ],
)
def test_whatever_happens_between(replays, tmp_path, between):
    assert_equal(*both(replays, lambda: relay_solver(tmp_path), 8, between))


def test_a_changed_activation_between_forward_and_backward(replays, tmp_path):
    def make():
        solver, run = relay_solver(tmp_path)

        def halve_and_run():
            solver.net.blobs["res2_branch2a"].data[...] *= 0.5
            run()

        return solver, halve_and_run

    assert_equal(*both(replays, make, 7))


def test_a_changed_loss_weight(replays, tmp_path):
    def weigh(solver, step):
        solver.net.blobs["loss"].diff[...] = 1 + step

    assert_equal(*both(replays, lambda: relay_solver(tmp_path), 7, weigh))


def test_gradients_that_accumulate(replays, tmp_path):
    def make():
        solver, run = relay_solver(tmp_path)
        solver.param.iter_size = 3

        def three_times():
            run()
            for _ in range(2):
                solver.net._forward(0, len(solver.net.layers) - 1)
                run()

        return solver, three_times

    assert_equal(*both(replays, make, 7))


def test_the_whole_backward_and_a_rule_that_has_no_kernel(replays, tmp_path):
    def make():
        solver, _ = relay_solver(tmp_path)
        path = tmp_path / "adam.prototxt"
        solver.param.type = "Adam"
        path.write_text(str(solver.param))
        solver = caffe.get_solver(str(path))
        relay_cases.fill(solver.net, decided=True)
        return solver, backward.Whole(solver.net)

    assert_equal(*both(replays, make, 7))


def test_bf16(replays, tmp_path):
    device.set_precision("bf16")
    try:
        plain, fast = both(replays, lambda: relay_solver(tmp_path), 7)
    finally:
        device.set_precision("fp32")
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-2)


IN_PLACE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "bn" type: "BatchNorm" bottom: "fc" top: "fc" }
"""


def test_diffs_from_outside_for_a_layer_in_place(replays):
    def gradients(on):
        count = replays(on)
        caffe.set_random_seed(1)
        net = caffe.Net(text_format.Parse(IN_PLACE, caffe_pb2.NetParameter()), caffe.TRAIN)
        random, found = np.random.RandomState(0), []
        for _ in range(7):
            net.clear_param_diffs()
            net.forward(data=random.randn(4, 3))
            net.backward(fc=random.randn(4, 2))
            found.append(net.params["fc"][0].diff.copy())
        assert len(count) == 2 * on  # of forward and of backward
        return found

    np.testing.assert_allclose(gradients(True), gradients(False), rtol=1e-4, atol=1e-6)


DYNAMIC = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "pick" type: "Input" top: "pick" input_param { shape { dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "some" type: "Filter" bottom: "fc" bottom: "pick" top: "some" }
layer { name: "loss" type: "Reduction" bottom: "some" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def test_a_net_whose_shapes_hang_on_values_runs_as_ever(replays):
    count = replays(True)
    net = caffe.Net(text_format.Parse(DYNAMIC, caffe_pb2.NetParameter()), caffe.TRAIN)
    net.blobs["data"].data[...] = np.arange(12).reshape(4, 3)
    for step in range(5):
        net.blobs["pick"].data[...] = [1, step % 2, 1, 0]
        expected = (net.blobs["data"].data @ net.params["fc"][0].data.T)[
            [0, 1, 2] if step % 2 else [0, 2]
        ]
        net.forward()
        np.testing.assert_allclose(net.blobs["some"].data, expected, rtol=1e-5)
    assert not count


def test_labels_out_of_range_are_still_found(replays, tmp_path):
    replays(True)
    solver, run = relay_solver(tmp_path)
    train(solver, run, 5)
    solver.net.blobs["label"].data[...] = 99
    with pytest.raises(caffe.CaffeError, match="holds label 99"):
        for _ in range(100):  # on a GPU once the copy is there
            solver.net.forward()
            if device.ordinal >= 0:
                torch.cuda.synchronize()
