"""Every schedule and option: ten iterations against plain PyTorch, five against BVLC Caffe."""

from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
import schedule_cases
from caffe import device
from caffe.proto.caffe_pb2 import SolverParameter
from nets import AUXILIARY, AUXILIARY_IN_PLACE
from relaybp.errors import RelayError
from schedule_cases import batches, make, run
from transcription import DEPTH, LAYERS, SCORES, Training

ITERATIONS = 10
TRUNK = ["conv1", "bn2", "scale2", "relu2", "conv2", "block2"]
TO_THE_BOTTOM = {
    "aux2_loss": {*TRUNK, "aux2_fc"},
    "aux3_loss": {*TRUNK, "conv3", "relu3", "aux3_fc"},
    "loss": {*TRUNK, "conv3", "relu3", "conv4", "relu4", "fc"},
}
NET_WEIGHTS = {"aux2_loss": 0.5, "aux3_loss": 0.25, "loss": 1.0}
ONES = dict.fromkeys(SCORES, 1.0)
LAW = {loss: max((depth / 3) ** 2, 0.5) if depth < 5 else 1.0 for loss, depth in DEPTH.items()}
LAW_TEXT = "weight_law { gamma: 2 floor: 0.5 reference: DEEPEST_AUXILIARY } "
OF_FINAL = {loss: (depth / 5) ** 1.5 for loss, depth in DEPTH.items()}
FLOWS = (
    'flow { loss: "loss" to: "conv3" } flow { loss: "aux3_loss" to: "conv2" } '
    'flow { loss: "aux2_loss" to: "conv1" } '
)
RANGES = {
    "aux2_loss": {*TRUNK, "aux2_fc"},
    "aux3_loss": {"conv2", "block2", "conv3", "relu3", "aux3_fc"},
    "loss": {"conv3", "relu3", "conv4", "relu4", "fc"},
}

# relay file: (method of Training, its options, reach, weights in the trunk, in the head)
CASES = {
    "schedule: JOINT": ("one_step", {}, TO_THE_BOTTOM, NET_WEIGHTS, None),
    "schedule: JOINT step { normalize: true }": (
        "one_step",
        {"normalize": True},
        TO_THE_BOTTOM,
        NET_WEIGHTS,
        None,
    ),
    "schedule: JOINT step { normalize: true } weight_law { gamma: 1.5 spare_scores: true }": (
        "one_step",
        {"normalize": True},
        TO_THE_BOTTOM,
        OF_FINAL,
        ONES,
    ),
    FLOWS: ("one_step", {}, RANGES, NET_WEIGHTS, None),
    FLOWS + LAW_TEXT: ("one_step", {}, RANGES, LAW, None),
    FLOWS + LAW_TEXT.replace("}", "spare_scores: true }") + "step { normalize: true }": (
        "one_step",
        {"normalize": True},
        RANGES,
        LAW,
        ONES,
    ),
    "schedule: PAIR_WISE": ("pair_wise", {}, TO_THE_BOTTOM, NET_WEIGHTS, None),
    "schedule: PAIR_WISE " + LAW_TEXT + "step { normalize: true loss_ratio_guard: 1 }": (
        "pair_wise",
        {"normalize": True, "guard": 1},
        TO_THE_BOTTOM,
        LAW,
        None,
    ),
    "schedule: PAIR_WISE step { own_momentum: false }": (
        "pair_wise",
        {"own_momentum": False},
        TO_THE_BOTTOM,
        NET_WEIGHTS,
        None,
    ),
    "schedule: MULTI_WAY": ("multi_way", {}, TO_THE_BOTTOM, NET_WEIGHTS, None),
    "schedule: MULTI_WAY " + FLOWS: ("multi_way", {}, RANGES, NET_WEIGHTS, None),
    "schedule: MULTI_WAY step { own_momentum: false }": (
        "multi_way",
        {"own_momentum": False},
        TO_THE_BOTTOM,
        NET_WEIGHTS,
        None,
    ),
    "schedule: MULTI_WAY weight_law { spare_scores: true }": (
        "multi_way",
        {},
        TO_THE_BOTTOM,
        NET_WEIGHTS,
        ONES,
    ),
    "schedule: MULTI_WAY "
    + LAW_TEXT.replace("}", "spare_scores: true }")
    + "step { normalize: true loss_ratio_guard: 1 }": (
        "multi_way",
        {"normalize": True, "guard": 1},
        TO_THE_BOTTOM,
        LAW,
        ONES,
    ),
    'schedule: MULTI_WAY flow { loss: "aux2_loss" to: "conv1" weight: 0.125 } '
    'flow { loss: "aux3_loss" to: "conv1" depth: 4 } weight_law { gamma: 1 }': (
        "multi_way",
        {},
        TO_THE_BOTTOM,
        {"aux2_loss": 0.125, "aux3_loss": 0.8, "loss": 1.0},
        None,
    ),
    "schedule: MULTI_WAY weight_law { drop_below: 0.3 }": (
        "multi_way",
        {},
        {loss: reach for loss, reach in TO_THE_BOTTOM.items() if loss != "aux3_loss"},
        NET_WEIGHTS,
        None,
    ),
}


@pytest.fixture(autouse=True)
def one_thread(project_layers):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads only cost time on tensors as small as these
    yield
    torch.set_num_threads(threads)


def weights_of(net):
    return {
        name: [torch.tensor(blob.data.copy()) for blob in blobs]
        for name, blobs in net.params.items()
        if name in LAYERS and name != "bn2"
    }


def largest_difference(net, expected):
    return max(
        np.abs(mine.numpy() - theirs.numpy()).max()
        for name, values in expected.items()
        for mine, theirs in zip(weights_of(net)[name], values, strict=True)
    )


@pytest.mark.parametrize(
    "net, kind",
    [(AUXILIARY, "SGD"), (AUXILIARY_IN_PLACE, "SGD"), (AUXILIARY_IN_PLACE, "Nesterov")],
    ids=["SGD", "in place, SGD", "in place, Nesterov"],
)
@pytest.mark.parametrize("relay", CASES)
def test_ten_iterations_are_those_of_the_description(double, tmp_path, relay, net, kind):
    method, options, reach, weight, head_weight = CASES[relay]
    solver, schedule = make(caffe, str(tmp_path), relay, net, type=kind)
    training = Training(
        weights_of(solver.net),
        lambda i: 0.0625 * 0.5 ** (i >= 4),
        0.875,
        2**-7,
        reach,
        weight,
        head_weight or weight,
        kind == "Nesterov",
    )
    run(solver, schedule, ITERATIONS)
    for _, (data, label) in zip(range(ITERATIONS), batches(), strict=False):
        getattr(training, method)(torch.tensor(data), torch.tensor(label), **options)
    assert solver.iter == ITERATIONS
    difference = largest_difference(solver.net, training.weights)
    assert difference < 1e-8


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "schedules.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", schedule_cases.CASES)
def test_training_is_that_of_bvlc_caffe(golden, tmp_path, name):
    found = schedule_cases.result(caffe, name, str(tmp_path))
    recorded = {
        key.partition("/")[2]: array for key, array in golden.items() if key.startswith(name + "/")
    }
    assert set(recorded) == set(found)
    for key, array in found.items():
        np.testing.assert_allclose(
            array, recorded[key], rtol=1e-5, atol=1e-5 * np.abs(recorded[key]).max(), err_msg=key
        )


def test_one_backward_per_range_trains_the_same(double, tmp_path):
    nets = []
    for fused in (True, False):
        solver, schedule = make(caffe, str(tmp_path), "schedule: MULTI_WAY", AUXILIARY, fused)
        run(solver, schedule, 3)
        nets.append(solver.net)
    assert largest_difference(nets[0], weights_of(nets[1])) < 1e-12


@pytest.mark.parametrize(
    "relay",
    [
        "schedule: MULTI_WAY",
        "schedule: PAIR_WISE",
        FLOWS,
        "schedule: MULTI_WAY step { own_momentum: false }",
    ],
)
@pytest.mark.parametrize(
    "kind", [SolverParameter.BINARYPROTO, SolverParameter.HDF5], ids=["binary", "HDF5"]
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, relay, kind):
    whole, schedule = make(caffe, str(tmp_path), relay, AUXILIARY, snapshot_format=kind)
    run(whole, schedule, 3)
    state = whole.snapshot()
    schedule.save(state)
    run(whole, schedule, 4, skip=3)
    resumed, schedule = make(caffe, str(tmp_path), relay, AUXILIARY)
    resumed.restore(state)
    schedule.restore(state)
    run(resumed, schedule, 4, skip=3)
    assert resumed.iter == 7
    assert largest_difference(resumed.net, weights_of(whole.net)) == 0


def test_the_momentum_of_a_loss_must_be_there_and_fit(tmp_path):
    solver, schedule = make(caffe, str(tmp_path), "schedule: MULTI_WAY", AUXILIARY)
    run(solver, schedule, 1)
    state = solver.snapshot()
    with pytest.raises(
        RelayError,
        match=r"a_iter_1\.aux2_loss\.solverstate: no such file; it "
        "holds the momentum of one loss",
    ):
        schedule.restore(state)
    schedule.save(state)
    _, other = make(caffe, str(tmp_path), "schedule: MULTI_WAY " + FLOWS, AUXILIARY)
    with pytest.raises(
        RelayError,
        match=r"aux3_loss\.solverstate: its 8 history blobs do not fit "
        "the 5 of the flow of 'aux3_loss'",
    ):
        other.restore(state)


@pytest.mark.parametrize("relay", ["schedule: JOINT", "schedule: STANDARD"])
def test_one_loss_is_standard_bp(tmp_path, relay):
    layers = AUXILIARY.split("layer {")
    net = "layer {".join(one for one in layers if '"aux2' not in one and '"aux3' not in one)
    _, schedule = make(caffe, str(tmp_path), relay, net)
    assert schedule.describe() == "standard BP: loss trains every layer"


def test_several_losses_are_joint(tmp_path):
    _, schedule = make(caffe, str(tmp_path), "schedule: JOINT", AUXILIARY)
    assert schedule.describe() == "every loss trains every layer below it"


@pytest.mark.parametrize(
    "relay, change, settings, message",
    [
        ("schedule: MULTI_WAY", (), {"iter_size": 2}, r"MULTI_WAY .*iter_size 2.*set iter_size: 1"),
        (
            "schedule: STANDARD",
            (),
            {},
            r"STANDARD trains one loss.*'loss', 'aux3_loss', 'aux2_loss'.*stage",
        ),
        (
            "schedule: PAIR_WISE",
            (
                'bottom: "data" top: "conv1"',
                'bottom: "data" top: "data" } layer { name: "conv1" '
                'type: "Convolution" bottom: "data" top: "conv1"',
            ),
            {},
            r"PAIR_WISE: layer 'conv0' changes the batch 'data' in place.*another name",
        ),
    ],
)
def test_what_cannot_be_says_why(tmp_path, relay, change, settings, message):
    net = AUXILIARY
    if change:
        net = net.replace(*change).replace(
            'name: "conv1" type: "Convolution" bottom: "data" top: "data"',
            'name: "conv0" type: "Power" bottom: "data" top: "data"',
        )
    with pytest.raises(RelayError, match=message):
        make(caffe, str(tmp_path), relay, net, **settings)


@pytest.mark.parametrize("relay", ["schedule: MULTI_WAY", "schedule: JOINT", FLOWS])
def test_frozen_layers_stay_as_they_are(tmp_path, relay):
    solver, schedule = make(
        caffe, str(tmp_path), relay + ' frozen: "conv1" frozen: "conv2"', AUXILIARY_IN_PLACE
    )
    before = weights_of(solver.net)
    run(solver, schedule, 2)
    after = weights_of(solver.net)
    same = {
        name
        for name in before
        if all(torch.equal(*pair) for pair in zip(before[name], after[name], strict=True))
    }
    assert same == {"conv1", "conv2"}


HEADS = (
    'flow { loss: "loss" to: "fc" } flow { loss: "aux3_loss" to: "aux3_fc" } '
    'flow { loss: "aux2_loss" to: "aux2_fc" } '
)


@pytest.mark.parametrize("relay", [HEADS, "schedule: MULTI_WAY " + HEADS, "schedule: JOINT"])
def test_on_a_frozen_trunk_only_the_heads_learn(tmp_path, relay):
    trunk = ("conv1", "scale2", "conv2", "conv3", "conv4")
    solver, schedule = make(
        caffe, str(tmp_path), relay + "".join(f' frozen: "{name}"' for name in trunk), AUXILIARY
    )
    before = weights_of(solver.net)
    run(solver, schedule, 2)
    after = weights_of(solver.net)
    changed = {
        name
        for name in before
        if not all(torch.equal(*pair) for pair in zip(before[name], after[name], strict=True))
    }
    assert changed == {"fc", "aux2_fc", "aux3_fc"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", ["conv3", "fc"])
def test_a_backward_pass_reads_the_weights_of_the_moment(tmp_path, precision, layer):
    """Multi-way relies on this: after a step, the next backward pass sees the new weights."""
    device.set_precision(precision)
    try:
        solver, _ = make(caffe, str(tmp_path), "schedule: JOINT", AUXILIARY)
        net = solver.net
        for loss in ("aux2_loss", "aux3_loss"):
            net.blobs[loss].diff[...] = 0
        net.forward()
        net.clear_param_diffs()
        for blob in net.params[layer]:
            blob.tensor.zero_()  # as an update would, in place
        net.backward()
        assert net.params[layer][0].diff.any()
        assert not net.params["conv2"][0].diff.any()
    finally:
        device.set_precision("fp32")


@pytest.mark.parametrize("relay", ["schedule: MULTI_WAY", "schedule: PAIR_WISE", FLOWS])
def test_diffs_that_nobody_looks_at_may_be_freed(tmp_path, relay):
    nets = []
    for keep in (True, False):
        solver, schedule = make(caffe, str(tmp_path), relay, AUXILIARY_IN_PLACE)
        solver.net.keep_diffs = keep
        run(solver, schedule, 3)
        nets.append(solver.net)
    assert largest_difference(nets[0], weights_of(nets[1])) == 0
