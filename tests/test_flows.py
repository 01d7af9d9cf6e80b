"""Flows: which layers each loss trains, and the errors of a relay file that does not fit."""

import pytest
from google.protobuf import text_format

import caffe
import relay_cases
from caffe.proto import caffe_pb2
from nets import BRANCHED
from relaybp import flows, relay_file
from relaybp.errors import RelayError
from relaybp.graph import Graph


@pytest.fixture(scope="module")
def net():
    return caffe.Net(text_format.Parse(BRANCHED, caffe_pb2.NetParameter()), caffe.TRAIN)


def plan(net, text):
    return flows.plan(net, relay_file.parse_relay(text, "my.prototxt"), net.param, "my.prototxt")


RELAY = 'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "conv1" }'


def names(net, flow):
    return {net._layer_names[index] for index in flow.layers}


def test_a_flow_is_what_leads_to_its_loss_from_its_lowest_layer_up(net):
    primary, auxiliary = plan(net, RELAY)
    splits = {name for name in net._layer_names if name.endswith("_split")}
    assert names(net, primary) - splits == {
        "res2_branch2a",
        "res2_branch2b",
        "res2",
        "relu2",
        "conv3",
        "relu3",
        "conv4",
        "relu4",
        "pool4",
        "fc",
        "loss",
    }
    assert names(net, auxiliary) - splits == {
        "conv1",
        "bn1",
        "scale1",
        "relu1",
        "res2_branch2a",
        "res2_branch2b",
        "res2",
        "relu2",
        "conv3",
        "relu3",
        "aux_pool",
        "aux_fc",
        "aux_loss",
    }


def test_ranges_cover_the_layers_exactly_and_descend(net):
    for flow in plan(net, RELAY):
        covered = [i for start, end in flow.ranges for i in range(start, end - 1, -1)]
        assert covered == sorted(flow.layers, reverse=True)
        assert all(
            below[0] < above[1] - 1
            for above, below in zip(flow.ranges, flow.ranges[1:], strict=False)
        ), "ranges could be joined"


@pytest.mark.parametrize(
    "to, lowest",
    [
        ("res2", "res2_branch2a"),  # the block, though a layer of that name exists
        ("res2_branch2b", "res2_branch2b"),
        ("conv1", "conv1"),
    ],
)
def test_to_names_a_layer_or_a_block(net, to, lowest):
    primary, _ = plan(net, RELAY.replace('"res2"', f'"{to}"'))
    assert min(primary.layers) == net._layer_names.index(lowest)


@pytest.mark.parametrize(
    "text, message",
    [
        ('flow { loss: "los" to: "conv1" }', r"my\.prototxt: .*'los'.* did you mean 'loss'"),
        ('flow { loss: "fc" to: "conv1" }', r"'fc': that layer is no loss.*aux_loss, loss"),
        (
            'flow { loss: "loss" to: "conv9" } flow { loss: "aux_loss" to: "conv1" }',
            r"to: 'conv9' is neither a layer nor the prefix.*did you mean 'conv",
        ),
        (
            'flow { loss: "loss" to: "aux_fc" } flow { loss: "aux_loss" to: "conv1" }',
            r"'aux_fc' does not lead to that loss",
        ),
        ('flow { loss: "loss" to: "conv1" }', r"loss 'aux_loss' is used by no flow; add flow"),
        (
            'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "res2" }',
            r"no flow reaches layer 'conv1'.*frozen: \"conv1\"",
        ),
        (RELAY + 'frozen: "conv77"', r"frozen layer 'conv77' does not exist"),
        (
            'flow { loss: "loss" to: "conv1" } flow { loss: "loss" to: "res2" }',
            r"loss 'loss' has 2 flows; give it one",
        ),
        ("shedule: RELAY", r"my\.prototxt: 1:1.*did you mean 'schedule'"),
        ("schedule: RELAI", r"my\.prototxt: .*did you mean 'RELAY'"),
        ("schedule: RELAY", r"needs a flow for every loss"),
        ("schedule: STANDARD " + RELAY, r"delete the flows"),
        ("schedule: STANDARD step { normalize: true }", r"delete the step"),
        ('flow { loss: "loss" }', r"a flow needs a loss and the lowest layer"),
        (RELAY.replace("}", "weight: -1 }"), r"'loss': weight -1; expected 0 or more"),
        (RELAY + "weight_law { gama: 2 }", r"did you mean 'gamma'"),
        (RELAY + "weight_law { gamma: -2 }", r"gamma -2; expected 0 or more"),
        (RELAY + "weight_law { floor: 0.1 }", r"floor belongs to the law.*add gamma"),
        (
            RELAY + "step { own_momentum: true }",
            r"own_momentum: schedule RELAY takes one step.*use PAIR_WISE or MULTI_WAY",
        ),
        (
            RELAY + "step { loss_ratio_guard: 2 }",
            r"loss_ratio_guard: schedule RELAY takes one step",
        ),
        (
            "schedule: MULTI_WAY step { loss_ratio_guard: 0.5 }",
            r"loss_ratio_guard 0\.5; expected 1",
        ),
    ],
)
def test_a_relay_file_that_does_not_fit_says_why(net, text, message):
    with pytest.raises(RelayError, match=message):
        plan(net, text)


def test_frozen_layers_need_no_flow(net):
    text = (
        'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "res2" } '
        'frozen: "conv1" frozen: "scale1"'
    )
    assert len(plan(net, text)) == 2


def test_what_the_net_and_what_the_relay_file_freeze():
    rates = {
        "both": "param { lr_mult: 0 } param { lr_mult: 0 }",
        "weights": "param { lr_mult: 0 } param { }",
        "weights_alone": "param { lr_mult: 0 }",
        "block_a": "",
        "block_b": "",
    }
    param = caffe_pb2.NetParameter()
    param.layer.add(name="x", type="Input", top=["x"]).input_param.shape.add(dim=[1, 1, 2, 2])
    param.layer.add(name="bn", type="BatchNorm", bottom=["x"], top=["x"])
    for name, text in rates.items():
        layer = param.layer.add(name=name, type="Convolution", bottom=["x"], top=["x"])
        text_format.Merge(text + "convolution_param { num_output: 1 kernel_size: 1 }", layer)
    graph = Graph(caffe.Net(param, caffe.TRAIN))
    assert flows.frozen(graph, param) == {"both", "bn"}
    relay = relay_file.parse_relay('schedule: JOINT frozen: "block"')
    assert flows.frozen(graph, param, relay) == {"both", "bn", "block_a", "block_b"}


def test_missing_relay_file(tmp_path):
    with pytest.raises(RelayError, match="no such file"):
        relay_file.read_relay(str(tmp_path / "relay.prototxt"))


@pytest.mark.parametrize("schedule", ["JOINT", "PAIR_WISE", "MULTI_WAY"])
def test_a_loss_without_a_flow_trains_everything_below_it(net, schedule):
    for flow in plan(net, f"schedule: {schedule}"):
        assert {"conv1", "relu3"} < names(net, flow)


def test_joint_has_no_boundaries(net):
    for flow in plan(net, "schedule: JOINT " + RELAY):
        assert {"conv1", "relu3"} < names(net, flow)


def weights(model, text, tmp_path):
    """{loss: weight} of a model's train net under a relay file."""
    path, _, param = relay_cases.prepare(caffe, model, str(tmp_path), 1, 32)
    found = flows.plan(caffe.get_solver(path).net, relay_file.parse_relay(text), param)
    return {flow.loss: (flow.depth, flow.weight) for flow in found}


LAW = "weight_law { gamma: 2 floor: 0.01 reference: DEEPEST_AUXILIARY }"


def test_the_law_gives_auxnet_the_weights_of_its_authors(tmp_path):
    found = weights("auxnet-56-5_relay", "schedule: MULTI_WAY " + LAW, tmp_path)
    assert {loss: depth for loss, (depth, _) in found.items()} == {
        "aux15_loss": 15,
        "aux25_loss": 25,
        "aux35_loss": 35,
        "aux45_loss": 45,
        "loss": 56,
    }
    assert [round(found[f"aux{depth}_loss"][1], 2) for depth in (15, 25, 35, 45)] == [
        0.11,
        0.31,
        0.60,
        1,
    ]
    assert found["loss"][1] == 1
