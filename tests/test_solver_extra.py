"""What an extra file adds to a solver: warm-up, plateau, cosine, label smoothing."""

import math

import numpy as np
import pytest
import torch

import caffe
import relaybp
import solver_cases
from caffe.command import main, train
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2, extra_pb2
from caffe.proto.forks import is_private
from caffe.training.extra import Stopping

SETTINGS = 'base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 4 momentum: 0.9 '


def extra(text):
    return parse_text(text, extra_pb2.ExtraParameter()) if text else None


def solver_with(text, settings=SETTINGS, net=solver_cases.NET):
    param = parse_text(f"{settings} max_iter: 12", caffe_pb2.SolverParameter())
    parse_text(net, param.net_param)
    return caffe.get_solver(param, extra(text))


def rates(solver, count):
    return [solver.learning_rate(i) for i in range(count)]


def test_the_fields_stand_in_a_message_of_their_own():
    own = (f for f in caffe_pb2.SolverParameter.DESCRIPTOR.fields if not is_private(f))
    solver_fields = {field.name for field in own}
    assert set(extra_pb2.ExtraParameter.DESCRIPTOR.fields_by_name) & solver_fields == {"lr_policy"}
    assert "label_smoothing" not in caffe_pb2.LossParameter.DESCRIPTOR.fields_by_name


def test_warm_up_grows_linearly_to_the_policys_rate():
    solver = solver_with("rampup_interval: 4 rampup_lr: 0.02")
    assert rates(solver, 9) == pytest.approx(
        [0.02, 0.04, 0.06, 0.08, 0.05, 0.05, 0.05, 0.05, 0.025]
    )


def test_cosine_goes_from_base_lr_to_min_lr():
    solver = solver_with('lr_policy: "cosine" min_lr: 0.01 rampup_interval: 2')
    assert solver.param.lr_policy == "cosine"
    middle = 0.01 + 0.09 / 2
    eighth = 0.01 + 0.09 * (1 + math.cos(math.pi / 5)) / 2
    found = rates(solver, 14)
    assert found[:3] == pytest.approx([0, 0.05, 0.1])
    assert found[4] == pytest.approx(eighth) and found[7] == pytest.approx(middle)
    assert found[12:] == pytest.approx([0.01, 0.01])


PLATEAU = 'lr_policy: "plateau" plateau_winsize: 2 plateau_winsize: 3 min_lr: 0.03'


def test_plateau_drops_where_no_new_minimum_comes():
    solver = solver_with(PLATEAU)
    losses = [5, 4, 4, 4.5, 3, 3, 3, 3, 3, 3, 3, 3]
    found = []
    for iteration, loss in enumerate(losses):
        solver.extra.observe(iteration, loss)
        found.append(solver.learning_rate(iteration))
    # minimum at 1, no other by 3: drop; minimum at 4, no other by 7: drop; no third window
    assert found == pytest.approx([0.1] * 3 + [0.05] * 4 + [0.03] * 5)  # 0.025 is below min_lr


def test_plateau_smooths_the_loss_as_average_loss_says():
    solver = solver_with(PLATEAU, SETTINGS + "average_loss: 2")
    for iteration, loss in enumerate([4, 1, 4, 3]):  # means 4, 2.5, 2.5, 3.5
        solver.extra.observe(iteration, loss)
    assert solver.extra.minimum == 2.5 and solver.extra.drops == 1


def make(tmp_path, more=PLATEAU):
    solver = solver_cases.make_solver(SETTINGS + "average_loss: 2", str(tmp_path))
    found = type(solver)(str(tmp_path / "solver.prototxt"), extra(more))
    for name, blobs in solver.net.params.items():
        for blob, other in zip(blobs, found.net.params[name], strict=True):
            other.data[...] = blob.data
    return found


def test_plateau_continues_from_a_snapshot_bit_for_bit(tmp_path):
    def train_observed(solver, count):
        seen = []
        for _ in range(count):
            solver.step(1)
            seen.append(solver.lr)
        return seen

    whole, half, resumed = (make(tmp_path) for _ in range(3))
    expected = train_observed(whole, 10)
    assert len(set(expected)) > 1  # it does drop
    train_observed(half, 5)
    resumed.restore(half.snapshot())
    resumed.net.layers[0].count = 5
    assert train_observed(resumed, 5) == expected[5:]
    for name, array in solver_cases.parameters(whole.net).items():
        np.testing.assert_array_equal(solver_cases.parameters(resumed.net)[name], array)


def test_a_snapshot_without_the_plateaus_memory_waits_a_whole_window(tmp_path):
    solver = make(tmp_path)
    solver.step(5)
    state = solver.snapshot()
    (tmp_path / "snapshot_iter_5.datastate").unlink()
    again = make(tmp_path)
    again.restore(state)
    assert again.extra.drops == solver.extra.drops
    assert (again.extra.minimum, again.extra.last_event) == (math.inf, 5)


# ---- a plateau of a test -------------------------------------------------------------------------

# After one step the bias has it right: the accuracy is 1 from then on, while the loss falls.
TESTED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
        inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "fc" bottom: "y" top: "right"
        include { phase: TEST } }
"""
TESTS = SETTINGS + "test_iter: 1 test_interval: 2 test_initialization: false average_loss: 1 "
OF_A_TEST = 'lr_policy: "plateau" plateau_winsize: 3 plateau_winsize: 2 plateau_output: "right"'
# tests at 2 (the least error), 4, 6 (3 iterations later: drop), 8 (2 after that: drop), 10
DROPS = [0.1] * 6 + [0.05] * 2 + [0.025] * 2  # after 1, 2, ... 10 iterations


def steps(trained, solver, count):
    """The rate after each of `count` iterations."""
    found = []
    for _ in range(count):
        trained.step(1)
        found.append(solver.learning_rate())
    return found


def test_plateau_observes_the_error_of_a_test():
    solver = solver_with(OF_A_TEST, TESTS, TESTED)
    assert steps(solver, solver, 10) == pytest.approx(DROPS)
    assert solver.extra.minimum == 0  # an error, not an accuracy


def test_plateau_of_a_tests_loss_observes_it_as_it_is():
    solver = solver_with(OF_A_TEST.replace("right", "loss"), TESTS, TESTED)
    for iteration, loss in ((0, 2.0), (2, 1.0), (4, 1.5), (6, 1.25)):
        found = [{"loss": np.array(loss), "right": np.array(0.5)}]
        solver.extra.observe_test(iteration, solver.test_nets, found)
    assert solver.extra.minimum == 1.0 and solver.extra.drops == 1


def test_the_driver_tells_the_plateau_its_tests_and_continues_from_a_snapshot(tmp_path):
    whole, half, resumed = (
        relaybp.attach(solver_with(OF_A_TEST, TESTS + f'snapshot_prefix: "{tmp_path}/a"', TESTED))
        for _ in range(3)
    )
    assert steps(whole, whole.solver, 10) == pytest.approx(DROPS)
    half.step(5)
    resumed.restore(half.snapshot())
    assert steps(resumed, resumed.solver, 5) == pytest.approx(DROPS[5:])


def test_plateau_of_an_output_that_is_not_tested_is_an_error():
    for settings in (TESTS, SETTINGS):
        with pytest.raises(caffe.CaffeError, match="plateau_output: no output 'wrong' of a test"):
            solver_with(OF_A_TEST.replace("right", "wrong"), settings, TESTED)


# ---- early stopping ------------------------------------------------------------------------------

STOPPING = 'early_stopping: 2 plateau_output: "right"'  # tests at 2 (the least error), 4, 6


def test_early_stopping_ends_a_training_after_tests_without_a_new_minimum(tmp_path):
    solver = solver_with(STOPPING, TESTS + f'snapshot_prefix: "{tmp_path}/a"', TESTED)
    solver.solve()
    assert solver.iter == 6 and solver.is_over
    assert (tmp_path / "a_iter_6.caffemodel").exists()
    solver.step(1)
    assert solver.iter == 6


def test_early_stopping_counts_from_the_newest_minimum():
    stopping = Stopping(2)
    for iteration, value in ((0, 3), (10, 2), (20, 2), (30, 1), (40, 1.5)):
        stopping.observe(iteration, value)
        assert not stopping.reached
    stopping.observe(40, 1.5)  # the same test again, after an interruption
    assert not stopping.reached
    stopping.observe(50, math.nan)  # is no minimum
    assert stopping.reached


def test_early_stopping_leaves_the_rate_alone():
    plain, stopped = solver_with("", TESTS, TESTED), solver_with(STOPPING, TESTS, TESTED)
    assert rates(plain, 8) == rates(stopped, 8)


def test_early_stopping_continues_from_a_snapshot(tmp_path):
    half, resumed = (
        relaybp.attach(solver_with(STOPPING, TESTS + f'snapshot_prefix: "{tmp_path}/a"', TESTED))
        for _ in range(2)
    )
    half.step(5)
    resumed.restore(half.snapshot())
    resumed.step(7)
    assert resumed.iter == 6
    fresh = relaybp.attach(solver_with(STOPPING, TESTS, TESTED))
    fresh.step(12)
    assert fresh.iter == 6


# ---- label smoothing -----------------------------------------------------------------------------

LOSS = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 5 dim: 2 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "loss" loss_weight: 2
        loss_param { ignore_label: 4 } }
"""


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.7])
def test_smoothed_loss_and_gradient_are_torchs(amount):
    solver = solver_with(f'label_smoothing {{ layer: "loss" amount: {amount} }}', net=LOSS)
    net, random = solver.net, np.random.RandomState(0)
    x = (random.randn(3, 5, 2) * 2).astype(np.float32)
    y = np.array([[0, 4], [1, 2], [4, 3]])
    net.blobs["x"].data[...], net.blobs["y"].data[...] = x, y
    found = net.forward()["loss"]
    net.backward()
    scores = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        scores, torch.tensor(y), ignore_index=4, label_smoothing=amount
    )
    (2 * loss).backward()
    np.testing.assert_allclose(found, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(net.blobs["x"].diff, scores.grad, rtol=1e-4, atol=1e-7)


def test_smoothing_is_for_the_training_net_and_for_all_losses_without_a_name():
    param = parse_text(SETTINGS + "test_iter: 1 test_interval: 1", caffe_pb2.SolverParameter())
    parse_text(LOSS, param.net_param)
    solver = caffe.get_solver(param, extra("label_smoothing { amount: 0.25 }"))
    assert solver.net.layer_dict["loss"].label_smoothing == 0.25
    assert solver.test_nets[0].layer_dict["loss"].label_smoothing == 0


# ---- files and errors ----------------------------------------------------------------------------


def test_the_command_takes_the_file(tmp_path):
    (tmp_path / "extra.prototxt").write_text("rampup_interval: 4")
    solver_cases.make_solver(SETTINGS, str(tmp_path))
    options = main.parser().parse_args(
        [
            "train",
            "-solver",
            str(tmp_path / "solver.prototxt"),
            "-extra",
            str(tmp_path / "extra.prototxt"),
        ]
    )
    solver = train.make_solver(train.Job(train.solver_param(options), options.extra))
    assert rates(solver, 3) == pytest.approx([0, 0.025, 0.05])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('lr_policy: "step"', "must be plateau or cosine; found 'step'"),
        ('lr_policy: "plateau"', r"needs plateau_winsize.*found \[\]"),
        ('lr_policy: "plateau" plateau_winsize: 0', r"found \[0\]"),
        ('lr_policy: "cosine" rampup_interval: 12', "a max_iter beyond the warm-up of 12"),
        ("ema_decay: 1", "ema_decay must be at least 0 and below 1; found 1"),
        ("early_stopping: 3", "early_stopping needs plateau_output"),
        ('early_stopping: -3 plateau_output: "a"', "early_stopping must be 0 or more; found -3"),
        ("rampup_lr: -1", "rampup_lr must be 0 or more; found -1"),
        ("label_smoothing { amount: 1 }", "amount must be at least 0 and below 1; found 1"),
        (
            'label_smoothing { layer: "los" amount: 0.1 }',
            "no SoftmaxWithLoss 'los' in the training net; did you mean 'loss'",
        ),
    ],
)
def test_errors_name_the_field(text, message):
    with pytest.raises(caffe.CaffeError, match=message):
        solver_with(text)


def test_a_plain_solver_file_cannot_name_an_extra_policy():
    message = "unknown lr_policy 'plateau'.*plateau and cosine stand in an extra file"
    with pytest.raises(caffe.CaffeError, match=message):
        solver_with("", SETTINGS.replace('"step"', '"plateau"'))


def test_a_misspelt_field_is_found(tmp_path):
    (tmp_path / "extra.prototxt").write_text("rampup_intervall: 4")
    param = parse_text(SETTINGS, caffe_pb2.SolverParameter())
    parse_text(solver_cases.NET, param.net_param)
    with pytest.raises(caffe.ParseError, match="did you mean 'rampup_interval'"):
        caffe.get_solver(param, tmp_path / "extra.prototxt")
