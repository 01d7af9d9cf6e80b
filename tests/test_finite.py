"""Numbers that are not finite: no update is made of them, and where they come from is named."""

import logging

import numpy as np
import pytest
import torch

import caffe
import schedule_cases
import solver_cases
from caffe.proto import caffe_pb2
from nets import AUXILIARY, AUXILIARY_IN_PLACE
from relaybp import relay_file
from relaybp.engines import native
from relaybp.errors import NotFiniteError
from relaybp.finite import check_weights
from relaybp.scores import rightly
from relaybp.trainer import Trainer
from test_waiting import Said, slow  # noqa: F401  a fixture

GOOD = schedule_cases.batches
BAD = 3  # the iteration of the bad batch
SCHEDULES = ["schedule: JOINT", schedule_cases.FLOWS, "schedule: PAIR_WISE", "schedule: MULTI_WAY"]
NETS = {"schedule: MULTI_WAY": AUXILIARY}


class Quiet(Said):
    def go_on_from(self, iteration):
        self.calls.append(("on from", iteration))


def batches(bad=(), left_out=()):
    """Endless batches: of those with the numbers in `bad` image 2 is spoiled, others are left out.

    The first has number 0.
    """
    for number, (data, label) in enumerate(GOOD()):
        if number in bad:
            data = data.copy()
            data[2, 1, 4, 4] = np.nan if number % 2 else np.inf
        if number not in left_out:
            yield data, label


def trainer(folder, monkeypatch, schedule, endless, net=None, **settings):
    """A Trainer that trains on some batches."""
    folder.mkdir(exist_ok=True)
    on_nan = settings.pop("on_nan", "stop")
    monkeypatch.setattr(schedule_cases, "batches", lambda: endless)
    relay = schedule_cases.attach(
        caffe,
        str(folder),
        relay_file.parse_relay(schedule),
        net or NETS.get(schedule, AUXILIARY_IN_PLACE),
        **{"max_iter": 6, **settings},
    )
    return Trainer(relay, Quiet(), on_nan=on_nan)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def weights_after(tmp_path, monkeypatch, schedule, iterations, endless):
    made = trainer(tmp_path / "good", monkeypatch, schedule, endless, max_iter=iterations)
    made.train()
    return schedule_cases.arrays(made.relay.net)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weights_stay_and_the_layer_and_the_image_are_named(tmp_path, monkeypatch, schedule):
    wanted = weights_after(tmp_path, monkeypatch, schedule, BAD, batches())
    made = trainer(tmp_path / "bad", monkeypatch, schedule, batches(bad=[BAD]))
    with pytest.raises(
        NotFiniteError, match=rf"iteration {BAD}: layer '\w+' \(\w+\) is the first where 1 of 1152"
    ) as caught:
        made.train()
    assert "There is no snapshot yet; a lower base_lr" in str(caught.value)
    assert_same(schedule_cases.arrays(made.relay.net), wanted)
    assert made.relay.iter == BAD


@pytest.mark.parametrize("schedule", SCHEDULES[:2])
@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_on_a_gpu_the_weights_stay_too(tmp_path, monkeypatch, request, schedule, kind):
    """There it is known an iteration later, whose update is left out, too."""
    settings = {"type": kind, "momentum2": 0.99, "clip_gradients": 5, "snapshot_after_train": False}
    if kind in ("AdaGrad", "RMSProp"):
        settings["momentum"] = 0
    good = trainer(
        tmp_path / "good", monkeypatch, schedule, batches(), **{**settings, "max_iter": BAD}
    )
    good.train()
    wanted, history = schedule_cases.arrays(good.relay.net), good.solver.history
    request.getfixturevalue("slow")
    made = trainer(tmp_path / "bad", monkeypatch, schedule, batches(bad=[BAD]), **settings)
    with pytest.raises(NotFiniteError, match=f"iteration {BAD}: "):
        made.train()
    assert made.relay.iter == BAD
    assert_same(schedule_cases.arrays(made.relay.net), wanted)
    for kept, other in zip(made.solver.history, history, strict=True):
        for mine, theirs in zip(kept, other, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("at", [4, 5])  # iteration 5 is the last
def test_on_a_gpu_nothing_is_saved_before_it_is_known_to_be_good(
    tmp_path, monkeypatch, request, at
):
    request.getfixturevalue("slow")
    made = trainer(tmp_path, monkeypatch, "schedule: JOINT", batches(bad=[at]), snapshot=1)
    with pytest.raises(NotFiniteError, match=rf"iteration {at}: .* is .*a_iter_{at}\.solverstate"):
        made.train()
    assert not (tmp_path / f"a_iter_{at + 1}.solverstate").exists()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_batch_is_left_out(tmp_path, monkeypatch, schedule):
    wanted = weights_after(tmp_path, monkeypatch, schedule, 6, batches(left_out=[BAD, BAD + 1]))
    made = trainer(
        tmp_path / "bad", monkeypatch, schedule, batches(bad=[BAD, BAD + 1]), on_nan="skip"
    )
    made.train()
    assert_same(schedule_cases.arrays(made.relay.net), wanted)
    told = [call for call in made.report.calls if call[0] == "on from"]
    assert told == [("on from", BAD)] * 2
    numbers = [call[0] for call in made.report.calls if isinstance(call[0], int)]
    assert numbers == [*range(1, 7)]  # no row twice


def test_on_a_gpu_two_batches_are_left_out(tmp_path, monkeypatch, request):
    wanted = weights_after(
        tmp_path, monkeypatch, schedule_cases.FLOWS, 6, batches(left_out=[BAD, BAD + 1])
    )
    request.getfixturevalue("slow")
    made = trainer(
        tmp_path / "bad", monkeypatch, schedule_cases.FLOWS, batches(bad=[BAD]), on_nan="skip"
    )
    made.train()
    assert_same(schedule_cases.arrays(made.relay.net), wanted)


def test_it_goes_back_to_the_snapshot_and_on_with_other_batches(tmp_path, monkeypatch):
    """Snapshots after 2 and 4 iterations; batch 5 is bad, so that 4 and 5 come of 6 and 7."""
    wanted = weights_after(tmp_path, monkeypatch, schedule_cases.FLOWS, 6, batches(left_out=[4, 5]))
    made = trainer(
        tmp_path / "bad",
        monkeypatch,
        schedule_cases.FLOWS,
        batches(bad=[5]),
        on_nan="rollback",
        snapshot=2,
    )
    made.train()
    assert_same(schedule_cases.arrays(made.relay.net), wanted)
    assert ("on from", 4) in made.report.calls


@pytest.mark.parametrize(
    "on_nan, message",
    [
        ("skip", "10 batches in a row have been left out"),
        ("rollback", "There is no older snapshot to go back to"),
    ],
)
def test_what_does_not_help_ends(tmp_path, monkeypatch, on_nan, message):
    endless = batches(bad=range(BAD, 100))
    made = trainer(tmp_path, monkeypatch, "schedule: JOINT", endless, on_nan=on_nan, snapshot=2)
    with pytest.raises(NotFiniteError, match=message):
        made.train()


INPUTS = """
    layer { name: "data" type: "Input" top: "data"
            input_param { shape { dim: 6 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 6 } } }
    layer { name: "fc0" type: "InnerProduct" bottom: "data" top: "fc0"
            inner_product_param { num_output: 5 } }
    layer { name: "spoils" type: "Python" bottom: "fc0" top: "passed"
            python_param { module: "test_finite" layer: "SpoilsGradients" } }
    layer { name: "fc" type: "InnerProduct" bottom: "passed" top: "fc"
            inner_product_param { num_output: 4 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" } """


class SpoilsGradients(caffe.Layer):
    """Passes values on; from the fourth backward pass on its gradient has a NaN."""

    until = 1000  # passes

    def setup(self, bottom, top):
        self.passes = 0

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.passes += 1
        bottom[0].diff[...] = top[0].diff
        if BAD < self.passes <= self.until:
            bottom[0].diff[0] = np.nan


def test_a_gradient_alone_is_enough(tmp_path, monkeypatch):
    made = trainer(tmp_path, monkeypatch, "schedule: JOINT", batches(), net=INPUTS)
    with pytest.raises(
        NotFiniteError,
        match=f"iteration {BAD}: layer 'spoils' .* first where 5 of 30 gradients of 'fc0'",
    ):
        made.train()


@pytest.mark.parametrize("on_nan", ["stop", "skip", "rollback"])
def test_what_another_loss_has_already_learned_of_a_batch(tmp_path, monkeypatch, on_nan):
    """Only the last loss's gradient is spoiled, when the first one has made its update."""
    aux = """
        layer { name: "aux_fc" type: "InnerProduct" bottom: "fc0" top: "aux_fc"
                inner_product_param { num_output: 4 } }
        layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux_fc" bottom: "label"
                top: "aux_loss" } """
    net = INPUTS.replace('layer { name: "spoils"', aux + 'layer { name: "spoils"')
    made = trainer(
        tmp_path, monkeypatch, "schedule: MULTI_WAY", batches(), net, on_nan=on_nan, snapshot=2
    )
    first = made.relay.net.layer_dict["spoils"]
    if on_nan == "rollback":
        monkeypatch.setattr(SpoilsGradients, "until", BAD + 2)
        made.train()
        assert made.relay.iter == 6 and first.passes > 6
        return
    with pytest.raises(NotFiniteError, match="cannot be left out" if on_nan == "skip" else "lower"):
        made.train()


def test_values_whose_sum_overflows_are_finite():
    assert native._is_finite(torch.full((3,), 3e38))
    assert not native._is_finite(torch.tensor([1.0, torch.inf, -torch.inf]))


# ---- updates that are left out -------------------------------------------------------------------


@pytest.mark.parametrize("held", [0.0, 1.0])
@pytest.mark.parametrize(
    "case", ["SGD_fixed", "Nesterov_fixed", "AdaGrad_fixed", "RMSProp_fixed", "Adam_fixed"]
)
def test_a_held_update_changes_nothing(tmp_path, caplog, case, held):
    caplog.set_level(logging.WARNING)

    def after(steps, held=None):
        solver = solver_cases.make_solver(solver_cases.CASES[case], str(tmp_path))
        solver.step(2)
        solver.held = None if held is None else torch.tensor(held)
        solver.step(steps)
        kept = [tensor.numpy() for tensors in solver.history for tensor in tensors]
        return {**schedule_cases.arrays(solver.net), **dict(enumerate(kept))}

    assert_same(after(1, held), after(0 if held else 1))


# ---- weights and scores --------------------------------------------------------------------------


def test_weights_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    made = trainer(tmp_path, monkeypatch, "schedule: JOINT", batches(), snapshot=1)
    name, blobs = next(iter(made.relay.net.params.items()))
    blobs[0].data.flat[3] = np.inf
    with pytest.raises(NotFiniteError, match=rf"mine: layer '{name}', param 0: 1 of \d+ values"):
        check_weights(made.relay.net, "mine")
    with pytest.raises(NotFiniteError, match="after its update"):
        made.snapshot()
    assert not list(tmp_path.glob("*_iter_*"))


@pytest.mark.parametrize("axis, top_k, ignore", [(1, 1, None), (1, 2, 0), (-1, 1, None), (2, 3, 1)])
def test_a_score_that_is_not_finite_is_never_right(axis, top_k, ignore):
    """Of Caffe's own answer is taken what a count, row by row, finds wrongly right."""
    random = np.random.RandomState(0)
    scores = random.randn(40, 5, 3).astype(np.float32)
    scores[random.rand(*scores.shape) < 0.1] = np.nan
    scores[random.rand(*scores.shape) < 0.05] = np.inf
    rows = np.moveaxis(scores, axis, -1)
    labels = random.randint(0, rows.shape[-1], rows.shape[:-1])
    param = caffe_pb2.AccuracyParameter(axis=axis, top_k=top_k)
    if ignore is not None:
        param.ignore_label = ignore
    net = caffe.Net(
        caffe_pb2.NetParameter(
            layer=[
                caffe_pb2.LayerParameter(
                    name=name,
                    type="Input",
                    top=[name],
                    input_param=caffe_pb2.InputParameter(
                        shape=[caffe_pb2.BlobShape(dim=values.shape)]
                    ),
                )
                for name, values in (("scores", scores), ("labels", labels))
            ]
            + [
                caffe_pb2.LayerParameter(
                    name="accuracy",
                    type="Accuracy",
                    bottom=["scores", "labels"],
                    top=["accuracy"],
                    accuracy_param=param,
                )
            ]
        ),
        caffe.TEST,
    )
    net.blobs["scores"].data[...], net.blobs["labels"].data[...] = scores, labels
    caffes = float(net.forward()["accuracy"])
    counted = right = bad = 0
    for row, label in zip(rows.reshape(-1, rows.shape[-1]), labels.flat, strict=True):
        if label != ignore:
            counted += 1
            bad += not np.isfinite(row).all()
            right += np.isfinite(row).all() and (row >= row[label]).sum() <= top_k
    found, share = rightly(scores, labels, param)
    assert found == bad > 0
    assert share == pytest.approx(right / counted, abs=1e-6)
    assert share < caffes
