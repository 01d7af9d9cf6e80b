"""Solvers against BVLC Caffe 1.0, snapshots both ways, and what a solver refuses.

tests/golden/solvers.npz and solver_snapshots.npz hold what tests/oracle/record_solvers.py
recorded under BVLC Caffe.
"""

import itertools
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import caffe
import solver_cases
from caffe.proto import caffe_pb2
from caffe_plain import glog
from solver_cases import STEPS

TOLERANCE = 5e-6  # of a blob's largest value, after ten updates in float32


def golden(name):
    with np.load(Path(__file__).parent / "golden" / name) as file:
        return dict(file)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small lose more by waiting for threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recorded():
    return golden("solvers.npz")


@pytest.fixture(scope="module")
def snapshots():
    return golden("solver_snapshots.npz")


def part(arrays, prefix):
    """The arrays below `prefix`, by the rest of their names."""
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


def worst_difference(found, expected):
    """The largest deviation, relative to the largest value of its array, and its name."""
    assert found.keys() == expected.keys()
    return max(
        (np.abs(found[key] - theirs).max() / np.abs(theirs).max(), key)
        for key, theirs in expected.items()
    )


# ---- ten steps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", solver_cases.CASES)
def test_ten_steps_are_those_of_bvlc_caffe(recorded, tmp_path, name):
    found = solver_cases.run(name, str(tmp_path))
    assert worst_difference(found, part(recorded, f"{name}/")) < (TOLERANCE, "")


def test_every_type_and_policy_is_compared():
    kinds = {cls.rule for cls in caffe.Solver.__subclasses__()}
    assert kinds == set(solver_cases.TYPES)
    from caffe_plain.lr_policy import POLICIES

    assert set(POLICIES) == set(solver_cases.POLICIES)


def test_frozen_parameters_keep_their_values(tmp_path):
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_all"], str(tmp_path))
    before = solver_cases.parameters(solver.net)
    solver.step(2)
    after = solver_cases.parameters(solver.net)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if not name.startswith("frozen")}


# ---- snapshots ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", solver_cases.SNAPSHOTS)
def test_restored_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, name):
    solver = solver_cases.make_solver(solver_cases.SNAPSHOTS[name], str(tmp_path))
    losses = solver_cases.train(solver, STEPS)
    whole = dict(solver_cases.parameters(solver.net), loss=losses[STEPS // 2 :])
    solver_cases.save_half(name, str(tmp_path))
    continued = solver_cases.go_on(name, str(tmp_path))
    assert whole.keys() == continued.keys()
    for key, array in whole.items():
        np.testing.assert_array_equal(continued[key], array, err_msg=key)


@pytest.mark.parametrize("name", solver_cases.SNAPSHOTS)
def test_snapshot_of_bvlc_caffe_continues_here(snapshots, tmp_path, name):
    for file, data in part(snapshots, f"{name}/file/").items():
        data.tofile(tmp_path / file)
    found = solver_cases.go_on(name, str(tmp_path))
    expected = part(snapshots, f"{name}/own_continued/")
    assert worst_difference(found, expected) < (TOLERANCE, "")


@pytest.mark.parametrize("name", solver_cases.SNAPSHOTS)
def test_snapshot_from_here_continues_in_bvlc_caffe(snapshots, tmp_path, name):
    """BVLC Caffe, given a snapshot of this engine, continued as this engine does."""
    solver_cases.save_half(name, str(tmp_path))
    found = solver_cases.go_on(name, str(tmp_path))
    expected = part(snapshots, f"{name}/theirs_continued/")
    assert worst_difference(found, expected) < (TOLERANCE, "")


@pytest.mark.parametrize("name", [n for n in solver_cases.SNAPSHOTS if "BINARY" in n])
def test_state_holds_the_fields_that_bvlc_caffe_writes(snapshots, tmp_path, name):
    solver_cases.save_half(name, str(tmp_path))
    file = f"{name}_iter_5.solverstate"
    mine = caffe_pb2.SolverState.FromString((tmp_path / file).read_bytes())
    theirs = caffe_pb2.SolverState.FromString(snapshots[f"{name}/file/{file}"].tobytes())
    assert (mine.iter, mine.current_step) == (theirs.iter, theirs.current_step)
    assert Path(mine.learned_net).name == Path(theirs.learned_net).name
    assert [list(b.shape.dim) for b in mine.history] == [list(b.shape.dim) for b in theirs.history]


def test_snapshot_diff_adds_the_gradients(tmp_path):
    solver = solver_cases.make_solver(
        solver_cases.CASES["SGD_fixed"] + " snapshot_diff: true", str(tmp_path)
    )
    solver.step(1)
    solver.snapshot()
    net = caffe_pb2.NetParameter.FromString((tmp_path / "snapshot_iter_1.caffemodel").read_bytes())
    blob = next(layer for layer in net.layer if layer.name == "fc").blobs[0]
    np.testing.assert_array_equal(np.float32(blob.diff), solver.net.params["fc"][0].diff.ravel())
    assert any(blob.diff)


# ---- test nets, states and weights -------------------------------------------------------------

STAGED = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "constant" value: 1 } } }
layer { name: "power" type: "Power" bottom: "fc" top: "train_only" include { phase: TRAIN } }
layer { name: "one" type: "Power" bottom: "fc" top: "one" include { phase: TEST stage: "one" } }
layer { name: "two" type: "Power" bottom: "fc" top: "two" include { min_level: 2 } }
layer { name: "not_two" type: "Power" bottom: "fc" top: "not_two" include { max_level: 1 } }
"""


def staged_solver(tmp_path, settings):
    (tmp_path / "net.prototxt").write_text(STAGED)
    path = tmp_path / "solver.prototxt"
    path.write_text('base_lr: 1 lr_policy: "fixed" ' + settings)  # the net lies beside the solver
    return caffe.get_solver(str(path))


def test_every_net_is_built_for_its_own_state(tmp_path):
    solver = staged_solver(
        tmp_path,
        """
        net: "net.prototxt" train_state { level: 2 } test_interval: 10
        test_iter: 1 test_state { stage: "one" } test_iter: 3 test_state { level: 2 }""",
    )
    outputs = [solver.net.outputs, *(net.outputs for net in solver.test_nets)]
    assert outputs == [["train_only", "two"], ["not_two", "one"], ["two"]]


def test_state_in_the_net_counts_unless_the_solver_says_otherwise(tmp_path):
    (tmp_path / "own.prototxt").write_text("state { level: 2 }" + STAGED)
    solver = staged_solver(
        tmp_path,
        """
        train_net: "own.prototxt" test_net: "own.prototxt" test_iter: 1 test_interval: 10
        test_state { level: 0 }""",
    )
    assert solver.net.outputs == ["train_only", "two"]
    assert solver.test_nets[0].outputs == ["not_two"]


def test_test_nets_see_the_train_nets_weights_and_average_their_outputs(tmp_path):
    solver = staged_solver(
        tmp_path,
        """
        net: "net.prototxt" test_iter: 3 test_interval: 10 test_state { stage: "one" }""",
    )
    solver.net.params["fc"][0].data[...] = [[1, 2, 3], [4, 5, 6]]
    batches = iter(np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 4]]))
    test_net = solver.test_nets[0]

    def next_batch(index):
        if index == 0:
            test_net.blobs["data"].data[...] = next(batches)

    test_net.before_forward(next_batch)
    means = solver.test(0)
    np.testing.assert_allclose(means["one"], [[(1 + 2 + 12) / 3, (4 + 5 + 24) / 3]])


def test_weights_of_the_solver_fill_all_nets(tmp_path):
    first = staged_solver(tmp_path, 'net: "net.prototxt"')
    first.net.params["fc"][0].data[...] = 7
    first.net.save(str(tmp_path / "a.caffemodel"))
    (tmp_path / "b.prototxt").write_text(STAGED.replace('"fc"', '"other"'))
    caffe.Net(str(tmp_path / "b.prototxt"), caffe.TRAIN).save(str(tmp_path / "b.caffemodel"))
    solver = staged_solver(
        tmp_path,
        """
        net: "net.prototxt" weights: "b.caffemodel, a.caffemodel" test_iter: 1 test_interval: 5""",
    )
    for net in (solver.net, *solver.test_nets):
        assert (net.params["fc"][0].data == 7).all()


def test_solver_takes_a_message(tmp_path):
    param = caffe_pb2.SolverParameter(base_lr=0.5, lr_policy="fixed", type="Adam")
    net = param.net_param
    caffe.files.text.parse_text(STAGED, net)
    solver = caffe.get_solver(param)
    assert solver.type == "Adam" and solver.lr == 0.5
    with pytest.raises(caffe.CaffeError, match="snapshot_prefix"):
        solver.snapshot()


# ---- the order of things -----------------------------------------------------------------------


def test_step_tests_trains_and_snapshots_when_due(tmp_path, caplog):
    caplog.set_level(logging.INFO, "caffe")
    solver = solver_cases.make_solver(
        solver_cases.CASES["SGD_clip"]
        + " snapshot: 2 test_interval: 3 test_iter: 1 display: 4 average_loss: 2",
        str(tmp_path),
    )
    calls = []
    solver.add_callback(
        lambda: calls.append(("start", solver.iter)), lambda: calls.append(("ready", solver.iter))
    )
    solver.step(4)
    assert calls == [(what, i) for i in range(4) for what in ("start", "ready")]
    lines = [r.getMessage() for r in caplog.records]
    assert sum(line.startswith("Gradient clipping: scaling down") for line in lines) == 4
    starts = [
        line.split(" (")[0] for line in lines if not line.startswith(("    ", "Gradient clipping"))
    ]
    prefix = tmp_path / "snapshot_iter_"
    assert starts == [
        "Iteration 0, Testing net",
        "Iteration 0",
        "Iteration 0, lr = 0.1",
        f"Snapshotting to binary proto file {prefix}2.caffemodel",
        f"Snapshotting solver state to binary proto file {prefix}2.solverstate",
        "Iteration 3, Testing net",
        f"Snapshotting to binary proto file {prefix}4.caffemodel",
        f"Snapshotting solver state to binary proto file {prefix}4.solverstate",
    ]


def test_a_loop_of_single_steps_has_the_speed_of_one_run(tmp_path, caplog, monkeypatch):
    """Each reading of the clock is a second later; a line shows how many there were since."""
    caplog.set_level(logging.INFO, "caffe")
    seconds = itertools.count()
    clock = SimpleNamespace(**{**vars(time), "monotonic": lambda: float(next(seconds))})
    monkeypatch.setattr(glog, "time", clock)
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_clip"] + " display: 5", str(tmp_path))
    for _ in range(11):
        solver.step(1)
    shown = [r.getMessage() for r in caplog.records if "iter/s" in r.getMessage()]
    assert [line.split(",")[0] for line in shown] == [
        "Iteration 0 (0 iter/s",
        "Iteration 5 (5 iter/s",
        "Iteration 10 (5 iter/s",
    ]
    solver.iter = 0  # as after a restored snapshot
    solver.step(1)
    assert "Iteration 0 (0 iter/s, 1s/5 iters)" in caplog.text


def test_solve_ends_with_a_snapshot_a_loss_and_a_test(tmp_path, caplog):
    caplog.set_level(logging.INFO, "caffe")
    solver = solver_cases.make_solver(
        solver_cases.CASES["SGD_fixed"]
        + " display: 5 test_interval: 10 test_iter: 1 test_initialization: false",
        str(tmp_path),
    )
    solver.solve()
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0] == "Solving solver_cases"
    assert lines[-1] == "Optimization Done."
    assert [n for n, line in enumerate(lines) if "Testing net" in line] == [len(lines) - 4]
    assert lines[-5].startswith("Iteration 10, loss = ")
    assert (tmp_path / "snapshot_iter_10.solverstate").exists()


def test_a_request_to_stop_leaves_a_snapshot(tmp_path):
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_fixed"], str(tmp_path))
    solver.requested_action = lambda: "stop" if solver.iter == 3 else None
    solver.solve()
    assert solver.iter == 3
    assert (tmp_path / "snapshot_iter_3.caffemodel").exists()
    solver.step(1)
    assert solver.iter == 4


def test_a_request_for_a_snapshot_trains_on(tmp_path):
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_fixed"], str(tmp_path))
    asked = iter([None, "snapshot", None])
    solver.requested_action = lambda: next(asked)
    solver.step(3)
    assert [p.name for p in tmp_path.glob("*.solverstate")] == ["snapshot_iter_2.solverstate"]


def test_apply_update_counts_the_iteration_as_in_bvlc_caffe(tmp_path):
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_step"], str(tmp_path))
    rates = []
    for _ in range(4):
        rates.append(solver.lr)
        solver.net.clear_param_diffs()
        solver.net.forward()
        solver.net.backward()
        solver.apply_update()
    assert solver.iter == 4
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05])


# ---- errors ------------------------------------------------------------------------------------

BASE = 'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" '
ERRORS = [
    (BASE + 'type: "Adm"', "unknown type 'Adm'; did you mean 'Adam'"),
    (BASE.replace("fixed", "stp"), "unknown lr_policy 'stp'; did you mean 'step'"),
    ('net: "net.prototxt" base_lr: 1', "no lr_policy; known are: exp, fixed"),
    (BASE.replace("fixed", "step"), "'step': stepsize must be a positive .*; found 0"),
    (BASE.replace("fixed", "exp") + "gamma: -1", "gamma must be 0 or more; found -1"),
    (BASE.replace("fixed", "poly"), "max_iter must be a positive"),
    (BASE + 'regularization_type: "L3"', "must be L1 or L2; found 'L3'"),
    (BASE + "iter_size: 0", "iter_size must be at least 1; found 0"),
    (BASE + "average_loss: 0", "average_loss must be at least 1; found 0"),
    (BASE + "test_iter: -1 test_interval: 1", r"test_iter must be .*; found \[-1\]"),
    (BASE + 'type: "AdaGrad" momentum: 0.9', "'AdaGrad' has no momentum; found 0.9"),
    (BASE + 'type: "RMSProp" momentum: 0.9', "'RMSProp' has no momentum; found 0.9"),
    (BASE + 'type: "RMSProp" rms_decay: 1', "rms_decay must be .* below 1; found 1"),
    (BASE + 'type: "Adam" momentum: 1', "momentum and momentum2 of Adam"),
    (BASE + 'snapshot: 1 snapshot_prefix: "/dev/null/x"', "cannot write to snapshot_prefix"),
    ('base_lr: 1 lr_policy: "fixed"', "expected one of net, .*; found none"),
    (BASE + 'train_net: "net.prototxt"', "expected one of .*; found train_net, net"),
    (BASE + "test_iter: 1", "positive test_interval"),
    (
        'train_net: "net.prototxt" base_lr: 1 lr_policy: "fixed" test_iter: 1 test_interval: 1',
        "test_iter has 1 values for 0 test nets",
    ),
    (
        BASE + "test_iter: 1 test_interval: 1 test_state {} test_state {}",
        "test_state is given 2 times for 1 test nets",
    ),
    (BASE + 'weights: "none.caffemodel"', "none.caffemodel"),
]


@pytest.mark.parametrize(("settings", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_name_the_setting(tmp_path, settings, message):
    (tmp_path / "net.prototxt").write_text(STAGED)
    path = tmp_path / "solver.prototxt"
    path.write_text(settings)
    with pytest.raises(caffe.CaffeError, match=message):
        caffe.get_solver(str(path))


def test_a_users_own_subclasses_leave_get_solver_as_it_is(tmp_path):
    class Logged(caffe.Solver):
        """No rule: it trains as the file says."""

    class Renamed(caffe.Solver):
        rule = "SGD"

    (tmp_path / "net.prototxt").write_text(STAGED)
    path = tmp_path / "solver.prototxt"
    path.write_text(BASE + 'type: "Zzz"')
    with pytest.raises(caffe.CaffeError, match="unknown type 'Zzz'; known are: AdaDelta, AdaGrad"):
        caffe.get_solver(str(path))
    path.write_text(BASE)
    assert type(caffe.get_solver(str(path))) is caffe.SGDSolver
    assert [cls(str(path)).type for cls in (Logged, Renamed)] == ["SGD", "SGD"]


def test_state_of_another_solver_is_refused(tmp_path):
    solver_cases.save_half("SGD_BINARYPROTO", str(tmp_path))
    other = solver_cases.make_solver(solver_cases.CASES["Adam_fixed"], str(tmp_path))
    state = str(tmp_path / "SGD_BINARYPROTO_iter_5.solverstate")
    with pytest.raises(caffe.WeightsError, match="7 history blobs; this Adam solver has 14"):
        other.restore(state)


def test_state_of_another_net_is_refused_before_anything_changes(tmp_path):
    solver_cases.save_half("SGD_BINARYPROTO", str(tmp_path))
    other = solver_cases.make_solver(solver_cases.CASES["SGD_fixed"], str(tmp_path))
    other.net.params["conv"][0].data[...] = 3
    other.history[0][5] = other.history[0][5][:2]
    with pytest.raises(caffe.WeightsError, match=r"history of 'fc\[0\]' has shape"):
        other.restore(str(tmp_path / "SGD_BINARYPROTO_iter_5.solverstate"))
    assert other.iter == 0 and (other.net.params["conv"][0].data == 3).all()


def test_missing_weights_of_a_state_are_named(tmp_path):
    solver_cases.save_half("SGD_BINARYPROTO", str(tmp_path))
    (tmp_path / "SGD_BINARYPROTO_iter_5.caffemodel").unlink()
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_fixed"], str(tmp_path))
    with pytest.raises(caffe.DataError, match="iter_5.caffemodel' are missing; put them back"):
        solver.restore(str(tmp_path / "SGD_BINARYPROTO_iter_5.solverstate"))


@pytest.mark.parametrize(
    "settings, iteration",
    [
        ('lr_policy: "exp" gamma: 10', 400),
        ('lr_policy: "inv" gamma: 1e30 power: -20', 1),
        ('lr_policy: "poly" power: -1', solver_cases.STEPS),
    ],
)
def test_a_rate_beyond_all_numbers_is_an_error(tmp_path, settings, iteration):
    solver = solver_cases.make_solver(f"base_lr: 1 {settings}", str(tmp_path))
    with pytest.raises(caffe.CaffeError, match=f"iteration {iteration} is too large"):
        solver.learning_rate(iteration)
