"""What a run folder holds beside its prototxts: the deploy net, mean, classes and picture."""

import re
import xml.etree.ElementTree

import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from relaybp import run_files, run_folder
from relaybp.errors import RelayError
from relaybp.evaluation.preparation import of_database
from relaybp.relay_file import parse_relay
from relaybp.run_plan import Plan, make_plan
from relaybp.train_options import arguments
from test_train import NET, RELAY, SOLVER, write_database

MEAN = {
    "none": "",
    "one": "mean_value: 120",
    "three": "mean_value: 90 mean_value: 110 mean_value: 130",
}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make a run's folder, and return (the folder, its solver); edits: (text, other text)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_database(tmp_path / "data" / "train_lmdb", 9, 1)
    write_database(tmp_path / "data" / "val_lmdb", 9, 2)
    (tmp_path / "data" / "classes.txt").write_text("dark\ngrey\nbright\n")

    def make(*edits, relay=RELAY):
        text = NET
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "small.prototxt").write_text(text)
        (tmp_path / "solver.prototxt").write_text(SOLVER)
        (tmp_path / "run").mkdir(exist_ok=True)
        param = run_folder.read("solver.prototxt", caffe_pb2.SolverParameter())
        net = run_folder.read("small.prototxt", caffe_pb2.NetParameter())
        message = parse_relay(relay) if relay else None
        plan = Plan(
            "small", "run", param, net, None, message, "solver.prototxt", None, None, of_model=False
        )
        solver = caffe.get_solver("solver.prototxt")
        assert run_files.write(caffe, plan, solver) == ""
        return tmp_path / "run", solver

    return make


IN_PLACE = """layer { name: "shift" type: "Power" bottom: "data" top: "data"
                   power_param { shift: 1 } }"""


@pytest.mark.parametrize("first", ["", IN_PLACE], ids=["", "after a layer in place"])
@pytest.mark.parametrize("mean", MEAN)
def test_the_deploy_net_scores_the_pixels_minus_the_mean_as_the_test_net_does(make, mean, first):
    convolution = 'layer { name: "conv1"'
    run, solver = make(("mean_value: 120", MEAN[mean]), (convolution, first + convolution))
    solver.net.save(str(run / "a.caffemodel"))
    test = solver.test_nets[0]
    test.share_with(solver.net)
    test.forward()
    scores = np.exp(test.blobs["fc"].data.astype(float))
    expected = scores / scores.sum(1, keepdims=True)

    with lmdb.open("data/val_lmdb", readonly=True) as base, base.begin() as transaction:
        records = [caffe_pb2.Datum.FromString(value) for _, value in transaction.cursor()]
    records = records[: len(expected)]
    pixels = np.stack([caffe.io.datum_to_array(record)[:, 1:15, 1:15] for record in records])
    blob = caffe_pb2.BlobProto.FromString((run / "mean.binaryproto").read_bytes())
    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST, weights=str(run / "a.caffemodel"))
    assert net.inputs == ["data"] and net.blobs["data"].shape == (1, 3, 14, 14)
    net.blobs["data"].reshape(*pixels.shape)
    found = net.forward(data=pixels - caffe.io.blobproto_to_array(blob)[0])["prob"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_mean_image_and_the_classes_are_those_of_the_beginning(make, tmp_path):
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=16, width=16, data=[7] * 768)
    (tmp_path / "data" / "mean.binaryproto").write_bytes(mean.SerializeToString())
    edit = ("mean_value: 120", 'mean_file: "data/mean.binaryproto"')
    run, _ = make(edit)
    (tmp_path / "data" / "mean.binaryproto").write_bytes(b"\x0a")
    (tmp_path / "data" / "classes.txt").write_text("other\n")
    assert run_files._copy("data/classes.txt", str(run / "classes.txt")) is None
    assert (run / "classes.txt").read_text() == "dark\ngrey\nbright\n"
    assert (run / "mean.binaryproto").read_bytes() == mean.SerializeToString()


@pytest.mark.parametrize("relay, first", [(RELAY, "conv2"), (None, "conv1")])
def test_the_plan_shows_what_each_loss_trains(make, relay, first):
    run, _ = make(relay=relay)
    text = (run / "plan.svg").read_text()
    assert xml.etree.ElementTree.fromstring(text).tag.endswith("svg")
    assert re.search(rf"<!-- loss(, weight 1)?:  {first} to fc -->", text)
    assert "<!-- aux_loss" in text


def test_a_solver_of_ones_own_is_known_to_its_run(make, tmp_path):
    run, _ = make()
    copy = run_folder.read(str(run / "solver.prototxt"), caffe_pb2.SolverParameter())
    assert copy.net == str(tmp_path / "small.prototxt")
    own = run_folder.read("solver.prototxt", caffe_pb2.SolverParameter())
    own.net = copy.net
    assert copy == own


ONE_FILE = 'net: "small.prototxt"'
TWO_FILES = 'train_net: "train.prototxt" test_net: "test.prototxt"'


@pytest.mark.parametrize("held", [False, True], ids=["files", "held"])
def test_a_solver_with_two_nets_is_known_by_one(make, tmp_path, held):
    """The net that its run tests and deploys is that of the solver with one file."""
    make()
    param = text_format.Parse(SOLVER.replace(ONE_FILE, TWO_FILES), caffe_pb2.SolverParameter())
    for phase in ("train", "test"):
        net = run_folder.read("small.prototxt", caffe_pb2.NetParameter())
        kept = [layer for layer in net.layer if str(layer).count(f"phase: {phase.upper()}")]
        kept = [layer for layer in net.layer if layer in kept or not layer.include]
        del net.layer[:]
        net.layer.extend(kept)
        for layer in net.layer:
            layer.ClearField("include")
        (tmp_path / f"{phase}.prototxt").write_text(str(net))
        if held:
            into = param.train_net_param if phase == "train" else param.test_net_param.add()
            into.CopyFrom(net)
    if held:
        param.ClearField("train_net"), param.ClearField("test_net")
    (tmp_path / "two.prototxt").write_text(str(param))
    (tmp_path / "relay.prototxt").write_text(RELAY)
    words = ["--solver", "two.prototxt", "--relay", "relay.prototxt", "--out", "of_two"]
    plan = make_plan(caffe_pb2, arguments(words))
    plan.save()
    solver = caffe.get_solver("two.prototxt")
    assert run_files.write(caffe, plan, solver) == ""

    for name in ("deploy.prototxt", "classes.txt", "mean.binaryproto"):
        assert (tmp_path / "of_two" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    again = caffe.get_solver("of_two/solver.prototxt")
    for mine, its in ((again.net, solver.net), (again.test_nets[0], solver.test_nets[0])):
        assert list(mine.layer_dict) == list(its.layer_dict)
        assert {k: v.shape for k, v in mine.blobs.items()} == {
            k: v.shape for k, v in its.blobs.items()
        }


def test_a_solver_without_a_net_is_refused(tmp_path):
    (tmp_path / "solver.prototxt").write_text("base_lr: 0.1")
    with pytest.raises(RelayError, match=r"solver.prototxt: names no net to train"):
        make_plan(caffe_pb2, arguments(["--solver", str(tmp_path / "solver.prototxt")]))


def test_a_net_that_scores_no_classes_has_no_deploy_net(make):
    run, _ = make(("SoftmaxWithLoss", "MultinomialLogisticLoss"))
    assert [path.name for path in run.iterdir()] == ["solver.prototxt"]


def test_how_records_were_made_is_found_in_their_database(make, tmp_path):
    make()
    first = {"gray": False, "height": 0, "width": 0, "short": 16, "encoding": None}
    expected = {**first, "keep_exif": False, "rgb": False, "known": False}
    assert of_database(caffe_pb2, "data/val_lmdb") == expected
    (tmp_path / "data" / "val_lmdb" / "settings.json").write_text(
        '{"gray": true, "height": 8, "width": 9, "short": 0, "encoding": "png", "list": "x"}'
    )
    said = {"gray": True, "height": 8, "width": 9, "short": 0, "encoding": "png"}
    more = {"keep_exif": False, "rgb": False, "known": True}
    assert of_database(caffe_pb2, "data/val_lmdb") == {**said, **more}
