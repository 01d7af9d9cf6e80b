"""Which layers are in a net, against what BVLC Caffe keeps and in everything that reads a net."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

import caffe
import phase_cases
from caffe import draw
from caffe.proto import caffe_pb2
from caffe_plain.phases import TEST, TRAIN, State, is_in_net, layers_of, state_of
from relaybp import run_folder
from relaybp.evaluation import nets, validation_set
from relaybp.planning.blueprint import TRAINING, blueprint, without_branches
from relaybp.prototxt import count

GOLDEN = json.loads((Path(__file__).parent / "golden" / "phases.json").read_text())


def parse(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


NET = parse(phase_cases.NET)
keys = pytest.mark.parametrize("phase, level, stages", phase_cases.STATES)


def recorded(phase, level, stages):
    """The names of the layers that BVLC Caffe kept."""
    digits = GOLDEN[phase_cases.key(phase, level, stages)]
    return [layer.name for layer, digit in zip(NET.layer, digits, strict=True) if digit == "1"]


def names(layers):
    return [layer.name for layer in layers]


@keys
def test_layers_of_a_state_are_those_of_caffe(phase, level, stages):
    expected = recorded(phase, level, stages)
    assert names(layers_of(NET, State(phase, level, stages))) == expected
    message = caffe_pb2.NetState(phase=phase, level=level, stage=stages)
    assert names(layers_of(NET, message)) == expected
    net = caffe.Net(NET, phase, level=level, stages=list(stages))
    assert list(net._layer_names) == expected


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_a_drawing_shows_the_layers_of_the_phase(phase):
    text = draw.get_dot_text(NET, "LR", phase=phase)
    shown = [layer.name for layer in NET.layer if f'"layer:{layer.name}"' in text]
    assert shown == recorded(phase, 0, ())


@pytest.mark.parametrize("stage", ["", "a", "b"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_the_count_walks_the_layers_of_phase_and_stage(phase, stage):
    rows = count.walk(NET, phase, stage)
    assert [row.name for row in rows] == recorded(phase, 0, (stage,) if stage else ())


def test_the_nets_own_state_counts():
    net = caffe_pb2.NetParameter()
    net.CopyFrom(NET)
    net.state.level, net.state.stage[:] = 2, ["a"]
    assert state_of(net, TEST, stages=["b"]) == State(TEST, 2, ("a", "b"))
    assert state_of(net, TEST, level=1, stages=["a"]) == State(TEST, 1, ("a",))
    assert state_of(net, TEST, level=0) == State(TEST, 0, ("a",))
    assert names(layers_of(net, state_of(net, TRAIN))) == recorded(TRAIN, 2, ("a",))


def test_include_and_exclude_together_are_an_error():
    layer = caffe_pb2.LayerParameter(name="both")
    layer.include.add()
    layer.exclude.add()
    with pytest.raises(caffe.LayerError, match="'both' has both include and exclude rules"):
        is_in_net(layer, TRAINING)


# ---- the readers of relaybp ----------------------------------------------------------------------


def test_a_plan_takes_the_training_layers():
    assert names(blueprint(caffe_pb2, NET).layer) == recorded(TRAIN, 0, ())


def test_branches_are_what_no_phase_has_in_the_stage_standard():
    net = parse("""
        layer { name: "both" type: "ReLU" }
        layer { name: "test" type: "ReLU" include { phase: TEST } }
        layer { name: "branch" type: "ReLU" include { phase: TRAIN not_stage: "standard" } }
        layer { name: "left out" type: "ReLU" exclude { stage: "standard" } }
        layer { name: "plain" type: "ReLU" include { stage: "standard" } }
        layer { name: "level" type: "ReLU" include { min_level: 1 } }""")
    assert names(without_branches(caffe_pb2, net).layer) == ["both", "test", "plain"]


DATA = """
    layer { name: "train" type: "Data" exclude { phase: TEST } data_param { batch_size: 5 } }
    layer { name: "one" type: "Data" top: "d" top: "l" include { %s } data_param { batch_size: 5 } }
    layer { name: "staged" type: "Data" include { phase: TEST stage: "more" } }
"""


@pytest.mark.parametrize("rule", ["phase: TEST", 'phase: TRAIN } include { not_stage: "more"', ""])
def test_the_data_of_a_test_are_found(rule):
    assert validation_set.test_feed(parse(DATA % rule)).layer.name == "one"
    assert names(run_folder.test_data_layers(parse(DATA % rule))) == ["one"]


def test_dense_scores_come_from_the_test_layers():
    net = parse("""
        layer { name: "data" type: "Data" top: "data" top: "label" }
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" exclude { phase: TRAIN } }
        layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" exclude { phase: TEST } }
        layer { name: "staged" type: "ReLU" bottom: "fc" top: "fc" include { stage: "more" } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }""")
    layers, scores = nets.prediction_layers(caffe_pb2, net)
    assert (names(layers), scores) == (["fc"], "fc")
    assert not layers[0].exclude
