"""The driver as its users run it: tools/train.py on small images, from start to resumed end."""

import csv
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import bvlc_source
import caffe
from caffe.command import parse_log
from caffe.files.weights import read_weights
from caffe.proto import caffe_pb2
from relaybp.run_folder import set_classes
from relaybp.trainer import top_errors

ROOT = Path(__file__).parent.parent
CLASSES = 3

NET = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 14 mirror: true scale: 0.01 mean_value: 120 }
        data_param { source: "data/train_lmdb" batch_size: 8 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 14 scale: 0.01 mean_value: 120 }
        data_param { source: "data/val_lmdb" batch_size: 7 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 8 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "aux_fc" type: "InnerProduct" bottom: "conv2" top: "aux_fc"
        include { phase: TRAIN not_stage: "standard" }
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux_fc" bottom: "label"
        top: "aux_loss" loss_weight: 0.3 include { phase: TRAIN not_stage: "standard" } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
        include { phase: TEST } }
"""
SOLVER = """
net: "small.prototxt" base_lr: 0.05 lr_policy: "multistep" gamma: 0.5 stepvalue: 15
momentum: 0.9 weight_decay: 0.0005 max_iter: 20 display: 5 snapshot: 10 random_seed: 3
test_iter: 3 test_interval: 10 snapshot_prefix: "small" solver_mode: CPU
"""
RELAY = 'flow { loss: "loss" to: "conv2" } flow { loss: "aux_loss" to: "conv1" }\n'


def write_database(path, count, seed, size=16):
    """Images whose class is their brightness: 3 x size x size, raw."""
    random = np.random.RandomState(seed)
    with (
        lmdb.open(str(path), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index in range(count):
            label = index % CLASSES
            pixels = np.clip(random.normal(60 + 60 * label, 30, (3, size, size)), 0, 255)
            datum = caffe.io.array_to_datum(pixels.astype(np.uint8), label)
            transaction.put(b"%08d" % index, datum.SerializeToString())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    write_database(folder / "data" / "train_lmdb", 50, 1)
    write_database(folder / "data" / "val_lmdb", 18, 2)
    (folder / "small.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "relay.prototxt").write_text(RELAY)
    return folder


def train(folder, *arguments, expect=0, launcher=(), largest_file=None):
    """Run tools/train.py in `folder`; return what it printed."""
    command = [
        sys.executable,
        *launcher,
        str(ROOT / "tools" / "train.py"),
        "--gpu",
        "none",
        *arguments,
    ]
    return run(folder, command, expect, largest_file)


def run(folder, command, expect=0, largest_file=None):
    """Run a command in `folder`; return what it printed.

    largest_file: bytes; longer files cannot be written, as on a full disk.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/python:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),  # no other process changes what is chosen there
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=largest_file
        and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))),
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole_run(folder):
    """(printed text, run folder) of an uninterrupted run of 20 iterations."""
    text = train(
        folder, "--solver", "solver.prototxt", "--relay", "relay.prototxt", "--out", "whole"
    )
    for name in ("small_iter_10", "small_iter_20"):
        for ending in (".caffemodel", ".solverstate", ".datastate", ".sha256"):
            assert (folder / "whole" / (name + ending)).exists(), "not at the solver's own prefix"
    return text, folder / "whole"


def test_early_stopping_finishes_a_run(folder):
    """At a rate of 0 the second test finds what the first found; then there is nothing to do."""
    (folder / "still.prototxt").write_text(SOLVER.replace("base_lr: 0.05", "base_lr: 0"))
    (folder / "extra.prototxt").write_text('early_stopping: 1 plateau_output: "accuracy"')
    words = ("--solver", "still.prototxt", "--extra", "extra.prototxt", "--out", "still")
    text = train(folder, *words)
    assert "Early stopping at iteration 10" in text and "10 iterations in" in text
    assert (folder / "still" / "small_iter_10.sha256").exists()
    assert "still: finished after 10 iterations" in train(folder, *words)


def test_a_run_shows_its_progress_and_where_everything_lies(whole_run):
    text, run = whole_run
    assert "loss trains down to conv2; aux_loss trains down to conv1" in text
    assert re.search(r"20/20 .* images/s .*loss \d.*lr 0\.025", text)
    assert re.search(r"20 iterations in 0:00:\d\d; top-1 error \d+\.\d\d % on 18 images", text)
    assert "\nEverything lies in whole\nNext:\n  relay evaluate whole " in text


@pytest.mark.parametrize("classes, ks", [(4, [1]), (5, [1]), (6, [1, 5]), (1000, [1, 5])])
def test_k_guesses_of_k_classes_are_no_error(classes, ks):
    """As tools/evaluate.py has it; set_classes lets the top 5 of 4 classes be the top 4."""
    net = text_format.Parse(
        'layer { name: "fc" type: "InnerProduct" top: "fc" inner_product_param { num_output: 9 } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" top: "loss" }'
        'layer { name: "one" type: "Accuracy" bottom: "fc" top: "one" }'
        'layer { name: "five" type: "Accuracy" bottom: "fc" top: "five" '
        "accuracy_param { top_k: 5 } }",
        caffe_pb2.NetParameter(),
    )
    set_classes(net, classes)
    means = {"one": 0.25, "five": 1.0, "loss": 2.0}
    assert top_errors(net, means) == {k: {1: 75.0, 5: 0.0}[k] for k in ks}


def test_attach_trains_the_same_from_a_script(folder):
    """Five iterations of tools/train.py and of relaybp.attach, in processes of their own."""
    (folder / "five.prototxt").write_text(
        SOLVER.replace("max_iter: 20", "max_iter: 5").replace('prefix: "small"', 'prefix: "five"')
    )
    arguments = ("--solver", "five.prototxt", "--relay", "relay.prototxt", "--out", "tool")
    train(folder, *arguments)
    (folder / "five.py").write_text(
        "import caffe, relaybp\n"
        'relay = relaybp.attach(caffe.get_solver("five.prototxt"), "relay.prototxt")\n'
        "relay.step(5)\n"
        "relay.snapshot()\n"
    )
    run(folder, [sys.executable, "five.py"])
    tool, script = (
        dict(read_weights(str(folder / f"{name}.caffemodel")))
        for name in ("tool/five_iter_5", "five_iter_5")
    )
    assert tool.keys() == script.keys() >= {"conv1", "fc", "aux_fc"}
    for name, blobs in tool.items():
        for mine, theirs in zip(blobs, script[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_loss_falls_and_the_table_has_it(whole_run):
    _, run = whole_run
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [
        float(row["value"]) for row in rows if row["name"] == "loss" and row["kind"] == "train"
    ]
    assert len(losses) == 4  # every `display` iterations
    assert losses[-1] < 0.5 * losses[0]
    tests = [float(row["value"]) for row in rows if row["name"] == "accuracy"]
    assert len(tests) == 3 and tests[-1] > 0.9  # before, at 10 and at 20


def test_the_log_has_the_lines_that_caffe_parsers_read(whole_run):
    _, run = whole_run
    log = (run / "train.log").read_text()
    glog = r"^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.cpp:\d+\] "
    assert re.search(glog + r"Iteration 10 \(.* iter/s, .*s/5 iters\), loss = \d", log, re.M)
    assert re.search(glog + r"Iteration 15, lr = 0\.025$", log, re.M)
    assert re.search(glog + r"    Train net output #\d: aux_loss = \S+ \(\* 0\.3 = ", log, re.M)
    assert re.search(glog + r"Iteration 10, Testing net \(#0\)$", log, re.M)
    assert re.search(glog + r"    Test net output #0: accuracy = ", log, re.M)


def test_its_rows_have_the_seconds_since_the_training_began(whole_run):
    with open(whole_run[1] / "train.log") as file:
        rows, tests = parse_log.parse(file)
    assert [row["NumIters"] for row in rows] == [0, 5, 10, 15]
    assert [row["NumIters"] for row in tests] == [0, 10, 20]
    seconds = [row["Seconds"] for row in rows]
    assert seconds[0] >= 0 and seconds == sorted(seconds) and seconds[-1] < 300
    assert all(row["aux_loss"] > 0 for row in rows)


@bvlc_source.needed
def test_bvlcs_own_parse_log_finds_the_same_rows(whole_run, tmp_path):
    log = whole_run[1] / "train.log"
    with open(log) as file:
        ours = parse_log.parse(file)
    for kind, theirs in zip(ours, bvlc_source.parse_log(log, tmp_path), strict=True):
        assert [{**row, "LearningRate": 0} for row in kind] == [
            {**row, "LearningRate": 0}
            for row in theirs  # theirs is the one before
        ]


def test_a_resumed_run_ends_with_the_same_weights(folder, whole_run):
    _, run = whole_run
    text = train(
        folder,
        "--solver",
        "solver.prototxt",
        "--relay",
        "relay.prototxt",
        "--snapshot",
        "whole/small_iter_10.solverstate",
        "--out",
        "resumed",
    )
    assert "10 iterations in" in text
    resumed = dict(read_weights(str(folder / "resumed" / "small_iter_20.caffemodel")))
    for name, arrays in read_weights(str(run / "small_iter_20.caffemodel")):
        for mine, theirs in zip(resumed[name], arrays, strict=True):
            np.testing.assert_array_equal(mine, theirs)


PLATEAU = """
lr_policy: "plateau" plateau_output: "accuracy"
plateau_winsize: 1 plateau_winsize: 1 plateau_winsize: 1
"""


OF_THE_LOSS = PLATEAU.replace('plateau_output: "accuracy"', "")


@pytest.mark.parametrize("extra", ["", PLATEAU, OF_THE_LOSS], ids=["multistep", "test", "loss"])
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(folder, extra):
    """With plateau, all observe what the first has tested, or the mean loss: one rate for all."""
    solver = SOLVER.replace("max_iter: 20", "max_iter: 14").replace("random_seed: 3", "") + (
        'weights: "start.caffemodel" '
    )
    if extra:
        solver = solver.replace("test_interval: 10", "test_interval: 1")
    (folder / "extra.prototxt").write_text(extra)
    more = ("--relay", "relay.prototxt", *(("--extra", "extra.prototxt") if extra else ()))
    one, two = (f"{name}{len(extra) or ''}" for name in ("one", "two"))
    net = NET.replace("mirror: true", "").replace("crop_size: 14", "")
    for name, net_file in ((two, "plain.prototxt"), (one, "double.prototxt")):
        (folder / f"{name}.prototxt").write_text(
            solver.replace('"small.prototxt"', f'"{net_file}"').replace('"small"', f'"{name}"')
        )
    (folder / "plain.prototxt").write_text(net)
    (folder / "double.prototxt").write_text(net.replace("batch_size: 8", "batch_size: 16"))
    param = text_format.Parse(net.replace('"data/', f'"{folder}/data/'), caffe_pb2.NetParameter())
    caffe.set_random_seed(1)
    caffe.Net(param, caffe.TRAIN).save(str(folder / "start.caffemodel"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    printed = train(folder, "--solver", f"{two}.prototxt", *more, "--out", two, launcher=launcher)
    assert (float(re.search(r"14/14 .* lr (\S+)", printed)[1]) < 0.05) == bool(extra)
    train(folder, "--solver", f"{one}.prototxt", *more, "--out", one)
    found = dict(read_weights(str(folder / two / f"{two}_iter_14.caffemodel")))
    for name, arrays in read_weights(str(folder / one / f"{one}_iter_14.caffemodel")):
        for mine, theirs in zip(found[name], arrays, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ("relay.prototxt", RELAY.replace('"loss"', '"los"')),
            r"relay\.prototxt: .*'los'.*did you mean 'loss'",
        ),
        (
            ("relay.prototxt", RELAY.replace("conv2", "conv22")),
            r"relay\.prototxt: .*'conv22'.*conv2",
        ),
        (
            ("small.prototxt", NET.replace("data/train_lmdb", "data/no_lmdb")),
            r"layer 'data'.*data/no_lmdb",
        ),
        (
            ("small.prototxt", NET.replace("num_output: 8", "num_outputs: 8", 1)),
            r"small\.prototxt:.*num_outputs.*num_output",
        ),
        (("small.prototxt", NET.replace('"ReLU"', '"RELU"', 1)), r"'relu1'.*'RELU'.*'ReLU'"),
        (("small.prototxt", NET.replace("stride: 2", "stride: 2 kernel_h: 3")), r"'conv2'.*kernel"),
        (
            (
                "small.prototxt",
                NET.replace('bottom: "conv1" top: "conv2"', 'bottom: "conv9" top: "conv2"'),
            ),
            r"'conv2'.*'conv9'",
        ),
        (("solver.prototxt", SOLVER.replace("multistep", "multisteps")), r"lr_policy.*multistep"),
        (("solver.prototxt", SOLVER.replace("small.prototxt", "gone.prototxt")), r"gone\.prototxt"),
    ],
)
def test_bad_input_is_named_and_leaves_no_run(folder, change, message):
    name, text = change
    good = (folder / name).read_text()
    (folder / name).write_text(text)
    try:
        printed = train(
            folder,
            "--solver",
            "solver.prototxt",
            "--relay",
            "relay.prototxt",
            "--out",
            "failed",
            expect=1,
        )
    finally:
        (folder / name).write_text(good)
    assert re.search(message, printed), printed
    assert "Traceback" not in printed
    assert not (folder / "failed").exists()


def test_a_relay_file_is_not_disregarded(folder):
    printed = train(
        folder, "--model", "resnet20", "--relay", "relay.prototxt", "--out", "failed", expect=1
    )
    assert "resnet20 has no flows; name it with _relay" in printed
    printed = train(
        folder, "--model", "resnet20_relay", "--relay", "gone.prototxt", "--out", "failed", expect=1
    )
    assert "gone.prototxt: no such file" in printed
    assert not (folder / "failed").exists()


def test_weights_that_do_not_fit_are_named(folder, whole_run):
    net = NET.replace("num_output: 8 kernel_size: 3 stride: 2", "num_output: 9 kernel_size: 3")
    (folder / "small.prototxt").write_text(net)
    try:
        printed = train(
            folder,
            "--solver",
            "solver.prototxt",
            "--relay",
            "relay.prototxt",
            "--weights",
            "whole/small_iter_20.caffemodel",
            "--out",
            "f2",
            expect=1,
        )
    finally:
        (folder / "small.prototxt").write_text(NET)
    assert re.search(
        r"small_iter_20\.caffemodel: layer 'conv2', param 0 has shape "
        r"\(8, 8, 3, 3\) there and \(9, 8, 3, 3\)",
        printed,
    ), printed


def test_a_full_disk_at_a_snapshot_is_named_and_leaves_nothing_half_written(folder, whole_run):
    """The weights take 8,756 bytes and more; logs stay below that."""
    printed = train(
        folder,
        "--solver",
        "solver.prototxt",
        "--relay",
        "relay.prototxt",
        "--out",
        "full",
        expect=1,
        largest_file=8000,
    )
    assert re.search(
        r"train: .*small_iter_10\.caffemodel: cannot write [\d,]+ bytes: .*free some "
        "space",
        printed,
    ), printed
    assert "Traceback" not in printed
    left = [path.name for path in (folder / "full").iterdir()]
    assert not any("iter_10" in name or name.endswith(".tmp") for name in left), left
