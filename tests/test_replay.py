"""Replayed passes do what ordinary passes do, whatever happens between them.

On a GPU with CUDA graphs, elsewhere with recordings of PyTorch's operators instead.
"""

import contextlib
import warnings
import weakref
from unittest import mock

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import recorded
import relay_cases
from caffe import device
from caffe.proto import caffe_pb2
from caffe.run import recording, replay
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


class Asks(caffe.TensorLayer):
    """Doubles its bottom; asks for a value, which a recording does not have."""

    type = "Asks"

    def forward(self, x):
        self.largest = x.max().item()
        return 2 * x

    def backward(self, diffs, bottoms, tops, wanted):
        return [2 * diffs[0]]


ASKS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "asks" type: "Asks" bottom: "fc" top: "asks" }
layer { name: "loss" type: "Reduction" bottom: "asks" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_layer_that_asks_for_a_value_goes_on(replays, precision):
    caffe.register_layer(Asks)
    device.set_precision(precision)

    def train_a_while(on):
        made = replays(on)
        caffe.set_random_seed(3)
        net = caffe.Net(text_format.Parse(ASKS, caffe_pb2.NetParameter()), caffe.TRAIN)
        net.blobs["data"].data[...] = np.arange(12).reshape(4, 3)
        found = []
        for _ in range(6):
            net.clear_param_diffs()
            found.append(net._forward(0, 4))
            net._backward(4, 0)
            weights = net.params["fc"][0]
            weights.tensor = weights.tensor - 1e-3 * weights.diff_tensor
        assert not made
        assert net.layers[3].largest == net.blobs["fc"].data.max()
        return found

    try:
        np.testing.assert_allclose(train_a_while(True), train_a_while(False), rtol=1e-5)
    finally:
        device.set_precision("fp32")


def test_nothing_lives_twice_while_a_pass_is_recorded(replays, tmp_path):
    made = replays(True)
    solver, run = relay_solver(tmp_path)
    blobs, alive = solver.net.blobs, []

    def train_once(watched):
        """Counts those of the tensors of the last step that are alive when a recording begins."""
        last, begin = [weakref.ref(tensor) for tensor in watched], recording.Recording._begin

        def count_and_begin(self):
            alive.append(sum(tensor() is not None for tensor in last))
            begin(self)

        with mock.patch.object(recording.Recording, "_begin", count_and_begin):
            train(solver, run, 1)

    train(solver, run, 2)
    train_once(b.tensor for name, b in blobs.items() if not name.startswith(("data", "label")))
    assert (len(made), alive) == (1, [0])  # of the values, before forward's recording
    train(solver, run, 1)
    written = [b for name, b in blobs.items() if "loss" not in name and not b.diff_is_zero]
    assert len(written) > 10
    train_once(b.diff_tensor for b in written)
    assert (len(made), alive) == (2, [0, 0])  # of the diffs, before backward's


def test_what_was_recorded_is_freed_when_it_is_of_no_more_use(replays, tmp_path):
    replays(True)
    solver, run = relay_solver(tmp_path)
    train(solver, run, 5)
    recordings = [weakref.ref(each) for each in replays(True)]
    train(solver, run, 5)
    shape = solver.net.blobs["data"].shape
    solver.net.blobs["data"].reshape(2, *shape[1:])
    solver.net.blobs["label"].reshape(2)
    solver.net.forward()
    assert all(each() is None for each in recordings)


def test_gradients_are_told_as_a_replay_goes_on(replays, tmp_path):
    """What a process sends to the others while backward runs, in the order of the layers."""

    def make(told):
        solver, run = relay_solver(tmp_path)
        solver.net.after_gradients(
            lambda blobs: told.extend((id(b), b.diff_tensor.clone()) for b in blobs)
        )
        return solver, run

    with mock.patch.object(replay, "_BYTES_BETWEEN_CUTS", 1000):
        results, tales = [], []
        for on in (False, True):
            made = replays(on)
            tales.append([])
            solver, run = make(tales[-1])
            results.append(train(solver, run, 6))
    assert len(made) == 2
    assert_equal(*results)
    assert len(tales[0]) == len(tales[1])
    places = [{blob: i for i, blob in enumerate(dict.fromkeys(b for b, _ in t))} for t in tales]
    for (blob, mine), (other, theirs) in zip(*tales, strict=True):
        assert places[0][blob] == places[1][other]
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_seed_keeps_what_has_been_recorded(replays, tmp_path):
    made = replays(True)
    solver, run = relay_solver(tmp_path)
    train(solver, run, 5)
    assert len(made) == 2
    caffe.set_random_seed(5)
    train(solver, run, 3)
    assert len(made) == 2


def test_keep_blobs_may_change_between_forward_and_backward(tmp_path):
    """On every device, with or without replay."""
    gradients = []
    for keep in (True, False):
        solver, run = relay_solver(tmp_path)
        net = solver.net
        net.blobs["data"].data[...] = np.random.RandomState(0).randn(*net.blobs["data"].shape)
        for before, after in ((keep, keep), (keep, not keep), (not keep, keep)):
            net.keep_blobs = before
            net.clear_param_diffs()
            net.forward()
            net.keep_blobs = after
            run()
            gradients.append([b.diff.copy() for blobs in net.params.values() for b in blobs])
    for other in gradients[1:]:
        for mine, theirs in zip(gradients[0], other, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


PARAMETER = """
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } }
layer { name: "y" type: "Power" bottom: "p" top: "y" power_param { power: 2 shift: 1 } }
layer { name: "z" type: "TanH" bottom: "p" top: "z" }
layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "z" top: "sum" }
layer { name: "loss" type: "Reduction" bottom: "sum" top: "loss" loss_weight: 1 }
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("held", ["", "top", "parameter", "both"])
def test_a_parameter_whose_top_is_held(replays, tmp_path, held, precision):
    (tmp_path / "net.prototxt").write_text(PARAMETER)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.125 momentum: 0.5 lr_policy: "fixed"'
    )
    caffe.set_precision(precision)
    try:
        results = []
        for on in (False, True):
            count = replays(on)
            solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
            parameter, top = solver.net.params["p"][0], solver.net.blobs["p"]
            parameter.data[...] = [1, -2, 3]
            solver.net.forward()
            arrays = [parameter.data] if held in ("parameter", "both") else []
            arrays += [top.data] if held in ("top", "both") else []
            results.append([])
            for step in range(9):
                solver.step(1)
                if step == 6 and arrays:
                    arrays[-1][1] = 0.5
                found = [array.copy() for array in (*arrays, parameter.data)]
                if precision == "fp32":  # else the top is rounded
                    assert all(np.array_equal(array, found[-1]) for array in found)
                results[-1] += found
    finally:
        caffe.set_precision("fp32")
    assert len(count) >= 2
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


class FakeCuda:
    """torch.cuda, as far as a recording uses it: notes the calls, and fails where it is told to."""

    def __init__(self, monkeypatch, launches=True, fails=()):
        self.calls, self.stream, cuda = [], "default", self

        class CUDAGraph:
            def register_generator_state(self, generator):
                cuda.calls.append("register")

            def replay(self):
                cuda.calls.append("replay")

        class Capture:
            def __init__(self, graph, pool, capture_error_mode):
                pass

            def __enter__(self):
                cuda.stream = "side"
                if "begin" in fails:
                    raise RuntimeError("cannot begin")
                cuda.calls.append("begin")

            def __exit__(self, *error):
                if "end" in fails:
                    raise RuntimeError("the capture was invalidated")
                cuda.calls.append("end")
                cuda.stream = "default"
                if not launches:
                    warnings.warn("The CUDA Graph is empty.", stacklevel=1)

        for name, value in {
            "CUDAGraph": CUDAGraph,
            "graph": Capture,
            "graph_pool_handle": lambda: "pool",
            "current_stream": lambda: self.stream,
            "set_stream": lambda stream: setattr(self, "stream", stream),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(
            torch._C,
            "_cuda_endAllocateToPool",
            lambda device, pool: self.calls.append(f"end {pool}"),
            raising=False,
        )


@pytest.mark.skipif(device.ordinal >= 0, reason="there is no need to imitate a GPU")
class TestRecordingOnAFakeGPU:
    def test_parts_and_hooks_run_in_order(self, monkeypatch):
        fake = FakeCuda(monkeypatch)

        def run(cut):
            torch.ones(2).mul_(2)
            cut(lambda: fake.calls.append("hook"))
            torch.ones(2).mul_(2)
            return "result"

        made = recording.Recording(run)
        assert fake.calls == ["register", "begin", "end"] * 2
        fake.calls.clear()
        made.replay()
        assert fake.calls == ["replay", "hook", "replay"] and made.result == "result"

    @pytest.mark.parametrize("fails", [("end",), ("begin",)])
    def test_a_capture_that_fails_leaves_nothing_behind(self, monkeypatch, fails):
        fake = FakeCuda(monkeypatch, fails=fails)
        generator = device.generator("cuda")
        expected = torch.rand(3, generator=generator.clone_state())
        with pytest.raises(RuntimeError, match="cannot begin|invalidated"):
            recording.Recording(lambda cut: torch.ones(2) * 2)
        assert fake.stream == "default" and "end pool" in fake.calls
        renewed = device.generator("cuda")
        assert renewed is not generator  # which may still believe that it is being recorded
        assert torch.equal(torch.rand(3, generator=renewed), expected)

    def test_an_error_in_the_pass_ends_the_capture(self, monkeypatch):
        fake = FakeCuda(monkeypatch)
        with pytest.raises(RuntimeError, match="needs values"):
            recording.Recording(lambda cut: torch.ones(2).sum().item())
        assert fake.calls == ["register", "begin", "end"] and fake.stream == "default"

    def test_kernels_that_went_elsewhere_are_an_error(self, monkeypatch):
        FakeCuda(monkeypatch, launches=False)
        with pytest.raises(recording.WrongDeviceError, match="1 operators ran and none"):
            recording.Recording(lambda cut: torch.empty(2).mul_(2))

    def test_a_pass_without_a_kernel_is_recorded_as_nothing(self, monkeypatch):
        fake = FakeCuda(monkeypatch, launches=False)
        made = recording.Recording(lambda cut: torch.empty(2, 3).view(6))
        fake.calls.clear()
        made.replay()
        assert fake.calls == []


def test_a_value_read_in_another_shape_is_that_of_the_last_replay(replays):
    """A Flatten's top shares its bottom's memory; what was made of it for one pass is of that."""
    replays(True)
    net = caffe.Net(text_format.Parse(FLAT, caffe_pb2.NetParameter()), caffe.TRAIN)
    for step in range(6):
        net.blobs["data"].data[...] = step
        net._forward(0, len(net.layers) - 1)
        assert (net.blobs["flat"].tensor == 2 * step).all(), step


FLAT = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "twice" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }
layer { name: "flat" type: "Flatten" bottom: "twice" top: "flat" }
layer { name: "loss" type: "Reduction" bottom: "twice" top: "loss" loss_weight: 1 }
"""
