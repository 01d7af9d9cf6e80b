"""relaybp.attach: a solver of pycaffe that trains by flows, against PyTorch and solver.step."""

import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import relaybp
import schedule_cases
from caffe.proto import extra_pb2
from nets import AUXILIARY, AUXILIARY_IN_PLACE
from readme_code import example
from relaybp import relay_file
from relaybp.engines.bvlc import Bvlc
from relaybp.errors import RelayError
from schedule_cases import attach, batches, make, run
from test_schedules import FLOWS, NET_WEIGHTS, RANGES, largest_difference, weights_of
from transcription import Training

AS_DICT = {"loss": "conv3", "aux3_loss": "conv2", "aux2_loss": "conv1"}


def same(mine, theirs):
    return mine.keys() == theirs.keys() and all(
        np.array_equal(mine[name], theirs[name]) for name in mine
    )


def same_weights(net, other):
    return same(schedule_cases.arrays(net), schedule_cases.arrays(other))


def given_as(kind, folder):
    """The same flows in each form that `attach` takes."""
    path = folder / "relay.prototxt"
    path.write_text(FLOWS)
    forms = {"dict": AS_DICT, "path": str(path), "Path": path}
    return forms.get(kind) or relay_file.parse_relay(FLOWS)


@pytest.mark.parametrize("kind", ["dict", "path", "Path", "message"])
def test_five_steps_are_those_of_the_description(double, tmp_path, kind):
    relay = attach(caffe, str(tmp_path), given_as(kind, tmp_path), AUXILIARY)
    training = Training(
        weights_of(relay.net),
        lambda i: 0.0625 * 0.5 ** (i >= 4),
        0.875,
        2**-7,
        RANGES,
        NET_WEIGHTS,
        NET_WEIGHTS,
    )
    relay.step(2)
    relay.step(3)
    for _, (data, label) in zip(range(5), batches(), strict=False):
        training.one_step(torch.tensor(data), torch.tensor(label))
    assert relay.iter == 5
    assert largest_difference(relay.net, training.weights) < 1e-8


@pytest.mark.parametrize("text", schedule_cases.ATTACHED)
def test_steps_are_iterations_of_the_schedule(tmp_path, text):
    relay = attach(caffe, str(tmp_path), relay_file.parse_relay(text), AUXILIARY_IN_PLACE)
    relay.step(5)
    solver, schedule = make(caffe, str(tmp_path), text, AUXILIARY_IN_PLACE)
    run(solver, schedule, 5)
    assert same_weights(relay.net, solver.net)


def test_an_iteration_by_hand_is_a_step(tmp_path):
    by_hand, steps = (attach(caffe, str(tmp_path), AS_DICT, AUXILIARY) for _ in range(2))
    for _, (data, label) in zip(range(3), batches(), strict=False):
        by_hand.net.blobs["data"].data[...] = data
        by_hand.net.blobs["label"].data[...] = label
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.backward()
        by_hand.solver.apply_update()
    steps.step(3)
    assert same_weights(by_hand.net, steps.net)


# ---- what solver.step does, too ------------------------------------------------------------


def lines(caplog):
    """The log without what depends on the clock."""
    found = [re.sub(r"\(\S+ iter/s, \S+s/", "(", r.getMessage()) for r in caplog.records]
    caplog.clear()
    return found


def twice(folder, settings, extra=None):
    """(a solver, the same one attached with every loss training all) in folders of their own."""
    net = AUXILIARY_IN_PLACE
    for name in ("plain", "attached"):
        (folder / name).mkdir()
    path = schedule_cases.write(caffe, str(folder / "plain"), net, **settings)
    solver = caffe.get_solver(path, extra)
    schedule_cases.fill(solver.net)
    schedule_cases.feed(solver, solver.net)
    return solver, attach(caffe, str(folder / "attached"), None, net, extra, **settings)


def test_joint_steps_log_test_and_save_as_solver_step_does(tmp_path, caplog):
    settings = {
        "display": 2,
        "average_loss": 2,
        "test_iter": [2],
        "test_interval": 3,
        "snapshot": 2,
        "iter_size": 2,
    }
    solver, relay = twice(tmp_path, settings)
    with caplog.at_level(logging.INFO, "caffe"):
        found = []
        for trained in (solver, relay):
            trained.step(4)
            trained.step(2)
            found.append([line.replace("attached", "plain") for line in lines(caplog)])
    assert found[1] == found[0]
    assert any("Testing net" in line for line in found[0])
    assert same_weights(relay.net, solver.net)
    saved = [
        sorted(p.name for p in (tmp_path / name).glob("a_*")) for name in ("plain", "attached")
    ]
    lists = [f"a_iter_{at}.sha256" for at in (2, 4, 6)]  # which the engine's own have not
    assert saved[1] == sorted(saved[0] + lists)
    assert "a_iter_6.solverstate" in saved[0]


def test_the_plateau_policy_sees_the_losses(tmp_path):
    text = 'lr_policy: "plateau" plateau_winsize: 1 plateau_winsize: 1'
    extra = text_format.Parse(text, extra_pb2.ExtraParameter())
    solver, relay = twice(tmp_path, {}, extra)
    for trained in (solver, relay):
        trained.step(8)
    rates = [solver.learning_rate(), relay.solver.learning_rate()]
    assert rates[1] == rates[0] < 0.0625
    assert same_weights(relay.net, solver.net)


def test_callbacks_come_before_the_forward_pass_and_before_each_update(tmp_path):
    relay = attach(caffe, str(tmp_path), relay_file.parse_relay("schedule: MULTI_WAY"), AUXILIARY)
    calls = []
    relay.add_callback(
        lambda: calls.append(("start", relay.iter)),
        lambda: calls.append(("gradients", relay.net.params["conv1"][0].diff.any())),
    )
    relay.step(2)
    assert calls == [("start", 0), *[("gradients", True)] * 3] + [
        ("start", 1),
        *[("gradients", True)] * 3,
    ]


@pytest.mark.parametrize("text", [FLOWS, "schedule: MULTI_WAY"])
def test_restore_continues_from_a_snapshot(tmp_path, text):
    message = relay_file.parse_relay(text)
    whole = attach(caffe, str(tmp_path), message, AUXILIARY)
    whole.step(2)
    state = whole.snapshot()
    assert state.endswith("_iter_2.solverstate")
    whole.step(2)
    again = attach(caffe, str(tmp_path), message, AUXILIARY)
    again.restore(state)
    assert again.iter == 2
    run_from(again, whole, 2)
    assert same_weights(again.net, whole.net)


def run_from(relay, other, skipped):
    """Continue to the iteration of `other`, with its batches from number `skipped` on."""
    for number, (data, label) in zip(range(other.iter), batches(), strict=False):
        if number >= skipped:
            relay.net.blobs["data"].data[...] = data
            relay.net.blobs["label"].data[...] = label
            relay.schedule.iterate(lambda loss: None)


# ---- how it looks, and what it refuses -----------------------------------------------------


def test_flows_print_as_a_table(tmp_path):
    relay = attach(caffe, str(tmp_path), AS_DICT, AUXILIARY)
    assert str(relay.flows).splitlines() == [
        "loss       from loss      down to conv3  7 layers, 3 with weights",
        "aux3_loss  from aux3_loss down to conv2  7 layers, 3 with weights",
        "aux2_loss  from aux2_loss down to conv1  9 layers, 5 with weights",
    ]
    assert [flow.loss for flow in relay.flows] == list(AS_DICT)


@pytest.mark.parametrize(
    "relay, message",
    [
        ({"los": "conv1"}, "attach: flow of loss 'los': .* did you mean 'loss'"),
        ({**AS_DICT, "loss": "conv9"}, "attach: flow of loss 'loss': to: 'conv9'"),
        ({"loss": "conv1"}, "attach: loss 'aux.*_loss' is used by no flow"),
        ({}, "attach: schedule RELAY needs a flow for every loss"),
        ("nowhere/relay.prototxt", "nowhere/relay.prototxt: no such file"),
        (3, "attach: relay is a int; expected the path of a relay.prototxt, a RelayParameter, or"),
    ],
)
def test_flows_that_do_not_fit_say_why(tmp_path, relay, message):
    with pytest.raises(RelayError, match=message):
        attach(caffe, str(tmp_path), relay, AUXILIARY)


def test_a_schedule_that_updates_after_each_loss_has_no_one_backward_pass(tmp_path):
    relay = attach(caffe, str(tmp_path), relay_file.parse_relay("schedule: MULTI_WAY"), AUXILIARY)
    with pytest.raises(RelayError, match="MULTI_WAY updates after the backward pass of each loss"):
        relay.backward()


def test_the_solver_s_file_must_be_given_where_needed_and_be_its_own(tmp_path):
    path = schedule_cases.write(caffe, str(tmp_path), AUXILIARY)
    solver = caffe.get_solver(path)
    with pytest.raises(RelayError, match=r"does not tell its settings; .*param=\"solver.prototxt"):
        Bvlc(caffe).wrap(solver, None)
    schedule_cases.write(caffe, str(tmp_path), AUXILIARY, max_iter=7)
    for engine in (relaybp.engines.of(caffe), Bvlc(caffe)):
        with pytest.raises(RelayError, match="max_iter is 7, and that of the solver 100; name"):
            engine.wrap(solver, path)


def test_importing_relaybp_imports_no_engine():
    check = "import relaybp, sys; sys.exit(bool({'caffe', 'torch', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True)
    with pytest.raises(AttributeError, match="no attribute 'atach'"):
        relaybp.atach  # noqa: B018


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example(), names)
    assert names["relay"].iter == 51
    assert float(names["solver"].net.blobs["loss"].data) < 0.2
    assert capsys.readouterr().out.startswith(
        "loss      from loss     down to conv2  4 layers, 2 with weights\n"
        "aux_loss  from aux_loss down to conv1  4 layers, 2 with weights\n"
    )
