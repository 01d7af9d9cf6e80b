"""Planning: what flows cost, where losses are proposed, and the example of the paper's Figure 2."""

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from itertools import combinations
from pathlib import Path

import pytest
from google.protobuf import text_format
from matplotlib.patches import Circle, Polygon

import caffe
import figure_texts
from caffe.proto import caffe_pb2
from nets import AUXILIARY, BRANCHED
from relaybp import flows, relay_file, style
from relaybp.errors import RelayError
from relaybp.graph import Graph
from relaybp.planning import branches, cost, picture, table
from relaybp.planning.blueprint import blueprint, without_branches
from relaybp.planning.propose import propose
from relaybp.planning.trunk import Trunk, has_weights

ROOT = Path(__file__).parent.parent
RELAY = 'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "conv1" }'


def read(text, message):
    return text_format.Parse(text, message)


def model_net(name):
    text = (ROOT / "prototxt" / name / "train_val.prototxt").read_text()
    return read(text, caffe_pb2.NetParameter())


def trunk_of(param):
    return Trunk(Graph(caffe.Net(blueprint(caffe_pb2, param), caffe.TRAIN)))


def planned(graph, text):
    return flows.plan(graph.net, relay_file.parse_relay(text), graph.net.param)


def model_plan(name):
    trunk = trunk_of(model_net(name))
    return trunk, planned(trunk.graph, (ROOT / "prototxt" / name / "relay.prototxt").read_text())


# ---- the example of the paper ------------------------------------------------------------------


def test_vgg19_with_two_losses_is_the_example_of_the_paper():
    """Segments end at five poolings; losses after 3 and 4; reach 1 to 3, 3 to 4, 4 to the top."""
    trunk, found = model_plan("vgg19")
    segments = [[unit.name for unit in stage] for stage in trunk.stages]
    assert [names[-1] for names in segments[:5]] == ["pool1", "pool2", "pool3", "pool4", "pool5"]
    assert segments[5] == ["fc6", "fc7", "fc8"]
    reach = {}
    for flow in found:
        here = {unit.name for unit in table.span(trunk, flow)}
        reach[flow.loss] = [
            number for number, names in enumerate(segments, 1) if here.intersection(names)
        ]
    assert reach == {"aux1_loss": [1, 2, 3], "aux2_loss": [3, 4], "loss": [4, 5, 6]}
    assert [[unit.name for unit in units] for _, units in table.overlaps(trunk, found)] == [
        ["conv3_1", "conv3_2", "conv3_3", "conv3_4"],
        ["conv4_1", "conv4_2", "conv4_3", "conv4_4"],
    ]


@pytest.mark.parametrize("model, count", [("vgg19", 2), ("model_a", 1), ("model_b", 1)])
def test_what_is_proposed_is_what_the_paper_chose(model, count):
    param = without_branches(caffe_pb2, model_net(model))
    trunk = trunk_of(param)
    text = branches.relay_text(trunk, propose(trunk, count))
    assert relay_file.parse_relay(text) == relay_file.parse_relay(
        (ROOT / "prototxt" / model / "relay.prototxt").read_text()
    )


# ---- proposals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, count",
    [
        ("vgg16", 3),
        ("resnet50_relay", 1),
        ("resnet50_relay", 3),
        ("inception_v3", 2),
        ("resnet56", 2),
        ("plain16", 1),
    ],
)
def test_a_proposal_is_balanced_and_never_low(model, count):
    trunk = trunk_of(without_branches(caffe_pb2, model_net(model)))
    proposal = propose(trunk, count)
    heights = [trunk.progress(unit) for unit in proposal.hung]
    assert len(heights) == count and min(heights) >= 1 / 3
    parts = [b - a for a, b in zip([1 / 3, *heights], [*heights, 1], strict=True)]
    assert max(parts) < 0.7 / count
    assert proposal.lowest[0].name in ("conv1", "conv1_1")
    for below, lowest in zip(proposal.hung, proposal.lowest[1:], strict=True):
        assert lowest.index <= below.index, "neighbouring flows must overlap"


def test_too_many_losses_are_refused():
    trunk = trunk_of(without_branches(caffe_pb2, model_net("resnet20")))
    with pytest.raises(RelayError, match=r"--auto 9: the trunk has \d places .* ask for fewer"):
        propose(trunk, 9)


# ---- cost --------------------------------------------------------------------------------------


def branched():
    param = read(BRANCHED, caffe_pb2.NetParameter())
    return Graph(caffe.Net(blueprint(caffe_pb2, param), caffe.TRAIN))


# multiply-adds of BRANCHED for one 3 x 12 x 12 image, by hand
CONV1, RES2A, RES2B = 6 * 3 * 9 * 144, 6 * 6 * 144, 6 * 6 * 9 * 144
CONV3, CONV4, FC, AUX = 8 * 6 * 9 * 25, 8 * 8 * 9 * 9, 8 * 5, 8 * 2 * 2 * 5
TRUNK = CONV1 + RES2A + RES2B + CONV3 + CONV4 + FC


def test_cost_of_standard_and_joint_by_hand():
    graph = branched()
    assert cost.standard_step(graph) == (TRUNK, TRUNK, TRUNK - CONV1)
    assert cost.joint_step(graph) == (TRUNK + AUX, TRUNK + AUX, TRUNK + AUX - CONV1)


def test_cost_of_relay_by_hand():
    """The final loss ends at res2, whose first layer then needs no data gradient for it."""
    graph = branched()
    both = RES2A + RES2B + CONV3
    data = (CONV4 + FC + AUX) + (CONV3 + RES2B) * 2 + RES2A
    assert cost.flows_step(graph, planned(graph, RELAY), True) == (TRUNK + AUX, TRUNK + AUX, data)
    assert cost.flows_step(graph, planned(graph, RELAY), False) == (
        TRUNK + AUX,
        TRUNK + AUX + both,
        data,
    )


def test_resnet50_relay_costs_what_theory_says():
    """1.072 of standard BP in the trunk: the overlap's data gradients run twice, its lowest not."""
    trunk, found = model_plan("resnet50_relay")
    standard = cost.total(cost.standard_step(trunk.graph))
    branch = cost.total(cost.joint_step(trunk.graph)) - standard
    relay = cost.total(cost.flows_step(trunk.graph, found, True))
    assert (relay - branch) / standard == pytest.approx(1.072, abs=5e-4)


@pytest.mark.parametrize(
    "text",
    [
        RELAY,
        'flow { loss: "loss" to: "res2_branch2b" } flow { loss: "aux_loss" to: "conv1" }',
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "conv1" }',
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "aux_fc" }',
    ],
)
def test_the_engine_computes_as_often_as_the_plan_says(text):
    graph = branched()
    found = planned(graph, text)
    counted = {"weights": 0, "data": 0}
    costs = dict(zip(graph.names, cost.multiply_adds(graph), strict=True))
    for node in graph.net.nodes:
        count_calls(node, costs[node.name], counted)
    graph.net.clear_param_diffs()
    graph.net.forward()
    graph.net.backward_flows([flow.ranges for flow in found])
    expected = cost.flows_step(graph, found, True)
    assert (counted["weights"], counted["data"]) == (expected.weights, expected.data)


def count_calls(node, multiply_adds, counted):
    """Add up the multiply-adds of a node's gradients, without counting one inside another."""
    both, data, weights = (
        node.layer.backward_both,
        node.layer.backward,
        node.layer.backward_params,
    )

    def counting(function, *kinds):
        def count(*arguments):
            for kind in kinds:
                counted[kind] += multiply_adds
            restore()  # what it calls in turn is part of it
            found = function(*arguments)
            install()
            return found

        return count

    def install():
        node.layer.backward_both = counting(both, "weights", "data")
        node.layer.backward = counting(data, "data")
        node.layer.backward_params = counting(weights, "weights")

    def restore():
        for name in ("backward_both", "backward", "backward_params"):
            delattr(node.layer, name)

    install()


# ---- the tool ----------------------------------------------------------------------------------


def plan(folder, *arguments, expect=0):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "plan.py"), *arguments, "--out", "out"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["vgg19", "model_b", "auxnet-56-5", "resnet200", "plain16"])
def test_no_text_of_a_picture_lies_over_another(name):
    trunk, found = model_plan(name)
    with style.styled():
        drawing = picture.Drawing(name, trunk, found, "RELAY")
        figure_texts.check(picture.figure_of([drawing], picture.INCH))


@pytest.mark.parametrize("name", ["vgg19", "resnet20", "resnet200", "auxnet-56-5"])
def test_the_text_of_a_flow_lies_within_its_arrow(name):
    trunk, found = model_plan(name)
    with style.styled():
        drawing = picture.Drawing(name, trunk, found, "RELAY")
        figure = picture.figure_of([drawing], picture.INCH)
    (axes,) = figure.axes
    arrows = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert len(arrows) == len(found)
    texts = dict(figure_texts.texts(figure))
    for flow, arrow in zip(found, arrows, strict=True):
        (left, low), (right, high) = arrow.get_window_extent().get_points()
        within = [
            text.get_text()
            for text, (x0, y0, x1, y1) in texts.items()
            if low < (y0 + y1) / 2 < high and left <= x0 and x1 <= right
        ]
        outside = [
            text.get_text()
            for text, (x0, y0, x1, y1) in texts.items()
            if low < (y0 + y1) / 2 < high and not (left <= x0 and x1 <= right)
        ]
        assert len(within) == 1 and within[0].startswith(flow.loss) and not outside


HINGE = 'layer { name: "%s" type: "HingeLoss" bottom: "%s" bottom: "label" top: "%s" }'
SHARED = """layer { name: "res2_fc" type: "InnerProduct" bottom: "res2" top: "res2_fc"
                   inner_product_param { num_output: 5 } }
            layer { name: "res2_fc2" type: "InnerProduct" bottom: "res2" top: "res2_fc2"
                   inner_product_param { num_output: 5 } }"""


@pytest.mark.parametrize(
    "scores", [("fc",), ("fc", "fc"), ("res2_fc", "res2_fc"), ("res2_fc", "res2_fc2")]
)
def test_losses_whose_branches_begin_at_one_blob_stand_beside_each_other(scores):
    text = BRANCHED + (SHARED if "fc" not in scores else "")
    text += "".join(HINGE % (f"hinge{k}", blob, f"hinge{k}") for k, blob in enumerate(scores))
    trunk = trunk_of(read(text, caffe_pb2.NetParameter()))
    found = planned(trunk.graph, "schedule: JOINT")
    with style.styled():
        figure = picture.figure_of([picture.Drawing("net", trunk, found, "JOINT")], picture.INCH)
    figure_texts.check(figure)
    circles = [patch.center for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    assert len(circles) == len(found) == 2 + len(scores)
    for one, other in combinations(circles, 2):
        assert math.dist(one, other) > 2 * picture.RADIUS


def test_all_arrows_have_the_form_that_fits_the_shortest():
    trunk, found = model_plan("plain16")
    with style.styled():
        figure = picture.figure_of([picture.Drawing("a", trunk, found, "RELAY")], 0.25)
    shown = [text.get_text() for text, _ in figure_texts.texts(figure)]
    assert {"loss:  conv2_1 to fc", "aux_loss:  conv1_1 to conv2_5"} <= set(shown)


@pytest.mark.parametrize("name", ["vgg19", "auxnet-56-5"])
def test_a_report_fits_a_terminal(name):
    lines = table.report(name, *model_plan(name), "RELAY").splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", ["vgg19", "auxnet-56-5"])
def test_grey_boxes_are_explained_where_there_are_any(name):
    trunk, found = model_plan(name)
    with style.styled():
        figure = picture.figure_of([picture.Drawing(name, trunk, found, "RELAY")], picture.INCH)
    shown = [text.get_text() for text, _ in figure_texts.texts(figure)]
    grey = [unit for unit in trunk.units if not has_weights(trunk.graph, unit)]
    assert ("without weights" in shown) == bool(grey)


def test_the_tool_prints_and_draws(tmp_path):
    (tmp_path / "branched.prototxt").write_text(BRANCHED)
    (tmp_path / "relay.prototxt").write_text(RELAY)
    text = plan(tmp_path, "--net", "branched.prototxt", "--relay", "relay.prototxt")
    assert "res2 to conv3 (2 units): trained by loss, aux_loss" in text
    assert "Drawn: out/branched.svg, out/branched.png" in text
    tree = xml.etree.ElementTree.parse(tmp_path / "out" / "branched.svg")
    assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "out" / "branched.png").read_bytes()[:4] == b"\x89PNG"


def test_what_auto_writes_can_be_planned_and_built(tmp_path):
    text = plan(tmp_path, "plain16", "--auto", "2", "--no-picture")
    folder = tmp_path / "out" / "plain16-auto2"
    assert 'flow { loss: "aux1_loss" to: "conv1_1" }' in text
    again = plan(
        tmp_path,
        "--net",
        str(folder / "train_val.prototxt"),
        "--relay",
        str(folder / "relay.prototxt"),
        "--no-picture",
    )
    assert again.splitlines()[2:] == text.split("schedule RELAY\n")[-1].splitlines()[1:]
    param = read((folder / "train_val.prototxt").read_text(), caffe_pb2.NetParameter())
    plain = without_branches(caffe_pb2, param)
    assert [layer.name for layer in plain.layer] == [
        layer.name for layer in without_branches(caffe_pb2, model_net("plain16")).layer
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("vgg91",), r"plan: MODEL=vgg91: no such model.*vgg19"),
        (
            ("--net", "aux.prototxt", "--auto", "1"),
            r"several losses already \(aux2_loss, aux3_loss, ",
        ),
        (("--net", "data.prototxt"), r"data layer 'data' has no crop_size.*--size"),
    ],
)
def test_errors_of_the_tool(tmp_path, arguments, message):
    (tmp_path / "aux.prototxt").write_text(AUXILIARY)
    (tmp_path / "data.prototxt").write_text(
        BRANCHED.replace('type: "Input"', 'type: "Data"').replace(
            "input_param { shape { dim: 4 dim: 3 dim: 12 dim: 12 } shape { dim: 4 } }", ""
        )
    )
    assert re.search(message, plan(tmp_path, *arguments, expect=1))
