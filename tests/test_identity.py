"""What a run is, and that a run of another identity is never continued or taken for it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from relaybp import identity
from relaybp.errors import RelayError
from relaybp.relay_file import parse_relay
from test_train import NET, RELAY, ROOT, SOLVER, run, write_database


def identity_in(folder, solver=SOLVER, net=NET, relay=RELAY, **more):
    """The identity of the small training of test_train on the databases in folder/data."""
    net = net.replace("data/", f"{folder}/data/")
    return identity.of_run(
        text_format.Parse(solver, caffe_pb2.SolverParameter()),
        text_format.Parse(net, caffe_pb2.NetParameter()),
        relay and parse_relay(relay),
        **more,
    )


def make_data(folder, train=(50, 1), val=(18, 2)):
    (folder / "data").mkdir(parents=True)
    write_database(folder / "data" / "train_lmdb", *train)
    write_database(folder / "data" / "val_lmdb", *val)
    return folder


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = make_data(tmp_path_factory.mktemp("identity"))
    return folder, identity_in(folder)


@pytest.mark.parametrize(
    "change, lines",
    [
        ({"solver": SOLVER.replace("0.05", "0.1")}, ["settings: base_lr 0.1 instead of 0.05"]),
        (
            {"solver": SOLVER + "regularization_type: 'L1'"},
            ["settings: regularization_type L1 instead of none"],
        ),
        ({"solver": SOLVER.replace("seed: 3", "seed: 4")}, ["seed: 4 instead of 3"]),
        (
            {"solver": SOLVER + "iter_size: 2"},
            ["batch: images 16 instead of 8", "settings: iter_size 2 instead of none"],
        ),
        (
            {"net": NET.replace("batch_size: 8", "batch_size: 4")},
            ["batch: images 4 instead of 8", "batch: per_pass 4 instead of 8"],
        ),
        ({"net": NET.replace("stride: 2", "stride: 3")}, ["model: the net differs"]),
        ({"net": NET.replace("mirror: true", "")}, ["model: the net differs"]),
        ({"relay": RELAY.replace("conv2", "conv1")}, ["method: the relay file differs"]),
        (
            {"relay": None},
            ["method: the relay file differs", "method: schedule JOINT instead of RELAY"],
        ),
        ({"processes": 2}, ["batch: images 16 instead of 8", "batch: processes 2 instead of 1"]),
        ({"precision": "bf16"}, ["settings: precision bf16 instead of fp32"]),
    ],
)
def test_whatever_decides_about_a_training_is_named(wanted, change, lines):
    folder, mine = wanted
    assert identity.differences(identity_in(folder, **change), mine) == lines


def test_weights_at_the_start_are_part_of_a_run(wanted, tmp_path):
    folder, mine = wanted
    (tmp_path / "a.caffemodel").write_bytes(b"weights")
    other = identity_in(folder, start=[str(tmp_path / "a.caffemodel")])
    assert identity.differences(other, mine) == ["start: the weights that it starts from differ"]


@pytest.mark.parametrize(
    "train, val, lines",
    [
        ((49, 1), (18, 2), ["data: 49 training records instead of 50"]),
        ((50, 1), (17, 2), ["data: 17 validation records instead of 18"]),
        ((50, 7), (18, 2), ["data: as many training records, but other ones"]),
    ],
)
def test_other_data_is_named(wanted, tmp_path, train, val, lines):
    other = identity_in(make_data(tmp_path / "other", train, val))
    assert identity.differences(other, wanted[1]) == lines


def test_classes_and_mean_are_part_of_the_data(wanted, tmp_path):
    _, mine = wanted
    folder = make_data(tmp_path / "other")
    (folder / "data" / "classes.txt").write_text("a\nb\nc\n")
    assert identity.differences(identity_in(folder), mine) == [
        "data: not the same classes of the training images",
        "data: not the same classes of the validation images",
    ]


def test_where_things_lie_is_no_part_of_a_run(wanted, tmp_path, monkeypatch):
    folder, mine = wanted
    shutil.copytree(folder, tmp_path / "moved")
    assert identity_in(tmp_path / "moved") == mine
    monkeypatch.chdir(tmp_path)
    solver = SOLVER.replace('prefix: "small"', 'prefix: "elsewhere/x"') + "device_id: 3 "
    assert identity_in("moved", solver=solver) == mine


def test_the_path_in_a_python_layer_is_data_too(wanted, tmp_path):
    folder, _ = wanted
    net = NET.replace(
        'type: "Data" top: "data" top: "label" include { phase: TRAIN }',
        'type: "Python" top: "data" top: "label" include { phase: TRAIN } python_param { '
        """param_str: "source: 'data/train_lmdb' batch_size: 4" }""",
    )
    net = re.sub(r'data_param \{ source: "data/train_lmdb".*?\} \}', "}", net, count=1)
    found = identity_in(folder, net=net)
    assert found["data"]["train"]["source"]["records"] == 50 and found["batch"]["images"] == 4


def test_a_large_database_is_sampled(wanted, monkeypatch):
    folder, mine = wanted
    monkeypatch.setattr(identity, "WHOLE_BYTES", 0)
    monkeypatch.setattr(identity, "SAMPLES", 5)
    identity._of_database.cache_clear()
    sampled = identity_in(folder)["data"]["train"]["source"]
    identity._of_database.cache_clear()
    whole = mine["data"]["train"]["source"]
    keys, values = (part.split("-") for part in (sampled["index"], whole["index"]))
    assert keys[0] == values[0] and keys[1] != values[1] and sampled["records"] == 50


# ---- the driver ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    make_data(tmp_path)
    (tmp_path / "small.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER.replace('"small" ', '"run/small" '))
    (tmp_path / "relay.prototxt").write_text(RELAY)
    return tmp_path


def command(*more):
    words = ["--gpu", "none", "--solver", "solver.prototxt", "--relay", "relay.prototxt"]
    return [sys.executable, "-m", "relaybp", "train", *words, "--out", "run", *more]


ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}", "OMP_NUM_THREADS": "1"}
LONG = SOLVER.replace('"small" ', '"run/small" ').replace("max_iter: 20", "max_iter: 1000000")


def train(folder, *more, expect=0):
    return run(folder, command(*more), expect)


def test_a_finished_run_is_not_trained_again_and_another_one_is_refused(folder):
    train(folder)
    record = json.loads((folder / "run" / "run.json").read_text())
    assert (record["state"], record["iteration"]) == ("finished", 20)
    assert record["data"] == [f"{folder}/data/train_lmdb", f"{folder}/data/val_lmdb"]
    assert "run: finished after 20 iterations; nothing to do" in train(folder)

    (folder / "solver.prototxt").write_text(LONG.replace("1000000", "20").replace("0.05", "0.1"))
    write_database(folder / "data" / "train_lmdb", 55, 1)
    before = (folder / "run" / "metrics.csv").read_bytes()
    printed = train(folder, expect=1)
    assert "run holds another run: what it has, instead of what is asked for, is" in printed
    state = "run/small_iter_20.solverstate"
    assert f"--snapshot {state} --out runs/new goes on from it in a folder of its own" in printed
    assert "data: 50 training records instead of 55" in printed
    assert "settings: base_lr 0.05 instead of 0.1" in printed
    assert "Traceback" not in printed
    assert (folder / "run" / "metrics.csv").read_bytes() == before

    (folder / "solver.prototxt").write_text(LONG.replace("1000000", "22"))
    printed = train(folder, "--snapshot", state, "--out", "new")
    assert f"Going on from {state}" in printed and ": 2 iterations in " in printed


def test_snapshots_of_unknown_origin_are_refused(folder):
    (folder / "run").mkdir()
    (folder / "run" / "small_iter_10.caffemodel").touch()
    printed = train(folder, expect=1)
    assert "no run.json that says what they were trained on" in printed
    (folder / "run" / "run.json").write_text("{}")
    assert "run.json: not the record of a run" in train(folder, expect=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_not_finished_and_goes_on(folder, number, default_sigint):
    (folder / "solver.prototxt").write_text(LONG)
    process = subprocess.Popen(
        command(), cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    metrics = folder / "run" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and "train,loss" in metrics.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    assert identity.read(str(folder / "run"))["state"] == "running"
    process.send_signal(number)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number, printed
    record = identity.read(str(folder / "run"))
    assert record["state"] == "interrupted" and record["iteration"] > 0

    # the same run, as it would be with fewer iterations to go
    at = record["iteration"]
    shorter = LONG.replace("1000000", str(at + 5))
    (folder / "solver.prototxt").write_text(shorter)
    wanted = {**record["identity"], "settings": {**record["identity"]["settings"]}}
    wanted["settings"]["max_iter"] = str(at + 5)
    identity.write(str(folder / "run"), {**record, "identity": wanted})
    printed = train(folder)
    assert f"Going on from run/small_iter_{at}.solverstate" in printed
    assert re.search(r": 5 iterations in ", printed)
    record = identity.read(str(folder / "run"))
    assert (record["state"], record["iteration"]) == ("finished", at + 5)


def test_a_run_that_ends_by_an_error_is_not_finished(folder):
    run(folder, command(), expect=1, largest_file=8000)  # the first snapshot cannot be written
    assert identity.read(str(folder / "run"))["state"] == "interrupted"


def test_a_record_is_checked_even_where_no_training_began(tmp_path):
    identity.write(str(tmp_path), {"identity": {"seed": 1}, "state": "running", "iteration": 0})
    with pytest.raises(RelayError, match="seed: 1 instead of 2"):
        identity.check(str(tmp_path), {"seed": 2})
    assert identity.check(str(tmp_path / "none"), {"seed": 2}) is None
