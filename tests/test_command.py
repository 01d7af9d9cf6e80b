"""The `caffe` command and its companions against BVLC Caffe's programs.

tests/golden/command.json holds what tests/oracle/record_command.py recorded there.
"""

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest

import caffe
import command_cases
from caffe.command import (
    classification,
    device_query,
    draw_net,
    extract_features,
    main,
    parse_log,
    summarize,
    upgrade,
)
from caffe.command import train as train_command
from caffe.files.text import parse_text, read_net
from caffe.proto import caffe_pb2
from caffe_plain.database import is_leveldb, open_database
from caffe_plain.signals import CAFFE_EFFECTS, Signals
from caffe_plain.version import VERSION

GOLDEN = Path(__file__).parent / "golden"
RECORDED = json.loads((GOLDEN / "command.json").read_text())
PROGRAMS = {
    "caffe": main.main,
    "classification": classification.main,
    "extract_features": extract_features.main,
}
# what only the original says: where it reads which definition, its factory, its database
LEFT_OUT = re.compile("The NetState |Ignoring source layer extra|Opened lmdb")
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]\d+)?")


pytestmark = pytest.mark.usefixtures("clean_log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the commands read; the commands of the table add theirs."""
    path = tmp_path_factory.mktemp("commands")
    command_cases.write_files(str(path), caffe)
    return path


def lines_of(pairs, net_lines=True):
    """The comparable lines of a log as (words, numbers)."""
    lines = [
        message
        for source, message in pairs
        if (source or not pairs_are_log(pairs))
        and source not in ("layer_factory", "db_lmdb")
        and (net_lines or source != "net")
        and not LEFT_OUT.match(message)
    ]
    return [NUMBER.sub("#", line) for line in lines], [
        float(number) for line in lines for number in NUMBER.findall(line)
    ]


def pairs_are_log(pairs):
    """Whether these are log lines; their continuations, texts of messages, are left out."""
    return any(source for source, _ in pairs)


@pytest.mark.parametrize("name", command_cases.COMMANDS)
def test_commands_print_what_bvlcs_print(folder, monkeypatch, capfd, name):
    monkeypatch.chdir(folder)
    program, *words = command_cases.COMMANDS[name]
    assert PROGRAMS[program](words) == 0
    captured = capfd.readouterr()
    mine = command_cases.plain(captured.err + captured.out)
    theirs = RECORDED[name]
    if program == "classification":
        theirs = theirs[theirs.index(mine[0]) :]
    texts, numbers = lines_of(mine, program == "caffe")
    their_texts, their_numbers = lines_of(theirs, program == "caffe")
    assert texts == their_texts
    np.testing.assert_allclose(numbers, their_numbers, rtol=2e-5)


def printed_nets(pairs):
    """The nets that a log prints, as they are before Splits are inserted."""
    nets, text = [], None
    for source, message in [*pairs, ("end", "")]:
        if source and text is not None:
            nets.append(parse_text("\n".join(text), caffe_pb2.NetParameter()))
            # the original also prints a stage "", where none is given, and no level of 0
            nets[-1].state.CopyFrom(caffe_pb2.NetState(phase=nets[-1].state.phase))
            text = None
        if message.startswith("Initializing net from parameters:"):
            text = []
        elif text is not None:
            text.append(message)
    return nets


@pytest.mark.parametrize("name", ["train", "test", "time_test"])
def test_printed_nets_are_bvlcs(folder, monkeypatch, capfd, name):
    monkeypatch.chdir(folder)
    caffe.Net("net.prototxt", caffe.TEST).save("snap_iter_6.caffemodel")
    assert main.main(command_cases.COMMANDS[name][1:]) == 0
    log = capfd.readouterr().err
    assert "_split" in log and "\n\n" not in log
    mine = printed_nets(command_cases.plain(log))
    assert mine == printed_nets(RECORDED[name])
    assert len(mine) == (2 if name == "train" else 1)


def test_extracted_features_are_bvlcs(folder):
    found = command_cases.features(str(folder))
    assert found.keys() == RECORDED["features"].keys()
    for key, (shape, values) in found.items():
        assert shape == RECORDED["features"][key][0]
        np.testing.assert_allclose(values, RECORDED["features"][key][1])


# ---- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-solver", "s", "-gpu", "0", "-level=2"],
        ["train", "--solver=s", "--gpu=0", "--level", "2"],
        ["-solver=s", "--gpu", "0", "train", "-level", "2"],
    ],
)
def test_flags_take_one_dash_or_two(words):
    options = main.parser().parse_args(words)
    assert (options.command, options.solver, options.gpu, options.level) == ("train", "s", "0", 2)


@pytest.mark.parametrize(
    "words, on_stderr, in_file",
    [
        ([], True, False),
        (["-log_dir=LOGS"], True, True),
        (["--log_dir", "LOGS", "-noalsologtostderr"], False, True),
        (["-log_dir", "LOGS", "--alsologtostderr=false"], False, True),
        (["-logtostderr", "-log_dir=LOGS"], True, False),
        (["--logtostderr=1", "-log_dir=LOGS"], True, False),
        (["-log_dir=LOGS", "--minloglevel=3"], False, False),
    ],
)
def test_glogs_flags_say_where_the_log_goes(
    folder, tmp_path, monkeypatch, capfd, words, on_stderr, in_file
):
    monkeypatch.chdir(folder)
    words = [word.replace("LOGS", str(tmp_path)) for word in words]
    assert main.main([*words, "time", "-model=net.prototxt", "-iterations=1"]) == 0
    line = "Testing for 1 iterations."
    assert (line in capfd.readouterr().err) == on_stderr
    logged = tmp_path / "caffe.INFO"  # points to the newest one
    assert (logged.exists() and line in logged.read_text()) == in_file


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["-version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"caffe version 1.0.0, project version {VERSION}\n"


ERRORS = [
    (["train", "-solver", "solver.prototxt", "-log_dir", "none"], "-log_dir none: No such file"),
    (["train"], "train needs -solver"),
    (["train", "-solver", "nope.prototxt"], "nope.prototxt: cannot be read"),
    (["train", "-solver", "solver.prototxt", "-snapshot", "a", "-weights", "b"], "not both"),
    (["train", "-solver", "solver.prototxt", "-sigint_effect", "x"], "invalid signal effect 'x'"),
    (["train", "-solver", "solver.prototxt", "-gpu", "x"], "-gpu x: expected all or numbers"),
    (["train", "-solver", "solver.prototxt", "-set", "base_l=1"], "did you mean 'base_lr'"),
    (["train", "-solver", "solver.prototxt", "-set", "base_lr=x"], "-set base_lr=x"),
    (["test"], "test needs -model"),
    (["test", "-model", "net.prototxt"], "test needs -weights"),
    (
        ["test", "-model", "net.prototxt", "-weights", "deploy.caffemodel", "-iterations", "0"],
        "-iterations 0: expected at least 1",
    ),
    (["time"], "time needs -model"),
    (["time", "-model", "net.prototxt", "-phase", "X"], "-phase X: expected TRAIN or TEST"),
    (["device_query"], "no CUDA device"),
]


@pytest.mark.skipif(caffe.gpu_count() > 0, reason="a GPU is there")
@pytest.mark.parametrize(("words", "message"), ERRORS, ids=[" ".join(e[0]) for e in ERRORS])
def test_errors_are_one_fatal_line(folder, monkeypatch, capfd, words, message):
    monkeypatch.chdir(folder)
    assert main.main(words) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("F")]
    assert message in line


@pytest.mark.parametrize("words", [["train", "-bogus"], ["bogus"], ["test", "-iterations", "x"]])
def test_bad_command_lines_end_with_status_1(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == 1
    assert "caffe: error:" in capsys.readouterr().err


def test_settings_and_stages_reach_the_solver(folder, monkeypatch):
    options = main.parser().parse_args(
        [
            "train",
            "-solver",
            str(folder / "solver.prototxt"),
            "-set",
            "stepvalue=7,8",
            "-set",
            "type=Adam",
            "-set",
            "momentum=0.5",
            "-stage",
            "a,b",
            "-level",
            "3",
            "-weights",
            "x,y",
        ]
    )
    param = train_command.solver_param(options)
    assert (param.type, param.momentum, list(param.stepvalue)) == ("Adam", 0.5, [7, 8])
    assert (list(param.train_state.stage), param.train_state.level) == (["a", "b"], 3)
    assert list(param.weights) == ["x,y"]
    assert param.net == str(folder / "net.prototxt")  # beside the solver


@pytest.mark.parametrize("mark", ["run.json", "snap_iter_4.sha256"])
def test_train_does_not_write_over_the_snapshots_of_a_run(
    folder, tmp_path, monkeypatch, capfd, mark
):
    """RUN/solver.prototxt names RUN/NAME as its snapshot_prefix."""
    monkeypatch.chdir(folder)
    (tmp_path / mark).write_text("{}")
    prefix = f"snapshot_prefix={tmp_path}/snap"
    assert main.main(["train", "-solver", "solver.prototxt", "-set", prefix]) == 1
    assert "-set snapshot_prefix=" in capfd.readouterr().err
    assert os.listdir(tmp_path) == [mark]


def test_solver_mode_gpu_is_taken_up(folder):
    param = caffe_pb2.SolverParameter(solver_mode=caffe_pb2.SolverParameter.GPU)
    assert train_command._gpu_of(param) == "0"
    param.device_id = 2
    assert train_command._gpu_of(param) == "2"
    assert train_command._gpu_of(caffe_pb2.SolverParameter()) == ""


def test_device_query_names_the_properties(monkeypatch, caplog):
    class Properties:
        def __getattr__(self, name):
            return name

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: Properties())
    monkeypatch.setattr("caffe.device.gpu_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    caplog.set_level(logging.INFO, "caffe")
    device_query.device_query(main.parser().parse_args(["device_query", "-gpu", "all"]))
    assert "Name:                           name" in [r.getMessage() for r in caplog.records]


# ---- signals -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("default_sigint")
def test_signals_become_requests_in_order():
    with Signals(CAFFE_EFFECTS) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        assert [signals.requested() for _ in range(3)] == ["snapshot", "stop", None]
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_sigint")
def test_where_nothing_could_be_saved_a_signal_interrupts_at_once():
    with Signals(CAFFE_EFFECTS) as signals:
        signals.interrupts = True
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert [signals.requested() for _ in range(2)] == ["snapshot", None]


def test_a_time_limit_is_told_from_a_signal(capfd):
    with Signals({}, acknowledges=True, time_limit_s=0.4) as signals:
        assert signals.requested() is None
        time.sleep(0.5)
        assert signals.requested() == "stop" and signals.status == 128 + signal.SIGXCPU
        assert signals.requested() is None
    assert capfd.readouterr().err == (
        "time limit of 0:00:00 reached: a snapshot and the end come after this batch\n"
    )


@pytest.mark.usefixtures("default_sigint")
def test_signals_can_be_ignored():
    with Signals(dict.fromkeys(CAFFE_EFFECTS, "none")) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested() is None


@pytest.mark.usefixtures("default_sigint")
def test_python_m_caffe_stops_at_sigint_with_a_snapshot(folder, tmp_path):
    environment = dict(os.environ, PYTHONPATH=str(Path(caffe.__file__).parent.parent))
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "caffe",
            "train",
            "-solver",
            str(folder / "solver.prototxt"),
            "-set",
            "max_iter=100000000",
            "-set",
            "test_interval=0",
            "-set",
            "test_iter=",
            "-set",
            "snapshot=0",
            "-set",
            "display=0",
            "-set",
            f"snapshot_prefix={tmp_path}/stop",
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if "Learning Rate Policy" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Optimization stopped early." in rest
    assert len(list(tmp_path.glob("stop_iter_*.solverstate"))) == 1


def test_two_processes_of_the_command_train_alike(folder, tmp_path):
    """Two processes on the same constant data take the steps of one."""
    script = tmp_path / "together.py"
    script.write_text(
        "from caffe.command import train\n"
        "from caffe_plain.signals import CAFFE_EFFECTS, Signals\n"
        "from caffe.files.text import read_solver\n"
        "if __name__ == '__main__':\n"
        f"    param = read_solver({str(folder / 'solver.prototxt')!r})\n"
        f"    param.net, param.snapshot_prefix = {str(folder / 'net.prototxt')!r}, 'both'\n"
        "    with Signals(CAFFE_EFFECTS) as signals:\n"
        "        train.train_together(train.Job(param), [None, None], signals, CAFFE_EFFECTS)\n"
    )
    environment = dict(
        os.environ, PYTHONPATH=str(Path(caffe.__file__).parent.parent), OMP_NUM_THREADS="1"
    )
    subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        check=True,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    alone = caffe.Net(
        str(folder / "net.prototxt"), caffe.TRAIN, weights=str(folder / "snap_iter_4.caffemodel")
    )
    both = caffe.Net(
        str(folder / "net.prototxt"), caffe.TRAIN, weights=str(tmp_path / "both_iter_4.caffemodel")
    )
    # finetune has overwritten snap_iter_4; train it again from the start
    solver = caffe.get_solver(str(folder / "solver.prototxt"))
    solver.param.snapshot = 0
    solver.step(4)
    alone.share_with(solver.net)
    for mine, theirs in zip(alone.params["fc"], both.params["fc"], strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-6)
    assert sorted(path.name for path in tmp_path.glob("*.solverstate")) == [
        "both_iter_4.solverstate",
        "both_iter_6.solverstate",
    ]


# ---- companions ----------------------------------------------------------------------------------


def test_upgrades_write_the_current_form(tmp_path):
    old = GOLDEN / "upgrade" / "v1_all_types.old.prototxt"
    new = tmp_path / "new.prototxt"
    assert upgrade.net_text([str(old), str(new)]) == 0
    expected = parse_text(
        old.with_name("v1_all_types.new.prototxt").read_text(), caffe_pb2.NetParameter()
    )
    assert parse_text(new.read_text(), caffe_pb2.NetParameter()) == expected
    binary = tmp_path / "old.caffemodel"
    binary.write_bytes(parse_text(old.read_text(), caffe_pb2.NetParameter()).SerializeToString())
    assert upgrade.net_binary([str(binary), str(tmp_path / "new.caffemodel")]) == 0
    assert (tmp_path / "new.caffemodel").read_bytes() == expected.SerializeToString()


def test_solvers_are_upgraded_without_more(tmp_path):
    old, new = GOLDEN / "upgrade" / "solver_adam.old.prototxt", tmp_path / "solver.prototxt"
    assert upgrade.solver_text([str(old), str(new)]) == 0
    expected = old.with_name("solver_adam.new.prototxt").read_text()
    assert parse_text(new.read_text(), caffe_pb2.SolverParameter()) == parse_text(
        expected, caffe_pb2.SolverParameter()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({4: "pool_lmdb"}, "2 blobs for 1 databases"),
        ({6: "rocksdb"}, "unknown backend 'rocksdb'; expected lmdb or leveldb"),
        ({3: "pol,fc"}, "no blob 'pol'; did you mean 'pool'"),
        ({4: ".,x"}, "exists already"),
    ],
)
def test_extract_features_says_what_is_wrong(folder, monkeypatch, capfd, changes, message):
    monkeypatch.chdir(folder)
    words = list(command_cases.COMMANDS["extract_features"])
    for index, word in changes.items():
        words[index] = word
    assert extract_features.main(words[1:]) == 1
    assert message in capfd.readouterr().err


def test_features_without_a_batch_axis_are_one_item_a_batch(tmp_path, monkeypatch):
    """As BVLC Caffe's extract_features writes them: a loss, a sum."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(SCALARS)
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    words = ["net.caffemodel", "net.prototxt", "sum,loss", "sum_lmdb,loss_lmdb", "2", "lmdb"]
    assert extract_features.main(words) == 0
    for name, value in (("sum", 24), ("loss", 16)):
        with lmdb.open(f"{name}_lmdb", readonly=True) as environment, environment.begin() as reader:
            found = [(key, caffe_pb2.Datum.FromString(record)) for key, record in reader.cursor()]
        assert [key for key, _ in found] == [b"0000000000", b"0000000001"]
        datum = caffe_pb2.Datum(channels=1, height=1, width=1, float_data=[value])
        assert [record for _, record in found] == [datum, datum]


SCALARS = """
layer { name: "data" type: "DummyData" top: "data" top: "target" dummy_data_param {
        shape { dim: 3 dim: 8 } shape { dim: 3 dim: 8 }
        data_filler { value: 1 } data_filler { value: 3 } } }
layer { name: "sum" type: "Reduction" bottom: "data" top: "sum" reduction_param { axis: 0 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "data" bottom: "target" top: "loss" }
"""


def test_extract_features_writes_either_backend(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    found = []
    for backend in ("lmdb", "leveldb"):
        words = list(command_cases.COMMANDS["extract_features"])[1:]
        words[3], words[5] = f"{tmp_path}/pool_{backend},{tmp_path}/fc_{backend}", backend
        assert extract_features.main(words) == 0
        with open_database(tmp_path / f"fc_{backend}").begin() as transaction:
            found.append(list(transaction.cursor()))
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert is_leveldb(str(tmp_path / "fc_leveldb"))


def test_classification_counts_the_labels(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    (folder / "few.txt").write_text("one\n")
    words = command_cases.COMMANDS["classification"][1:]
    assert classification.main([*words[:3], "few.txt", words[4]]) == 1
    assert "few.txt: 1 labels for 6 outputs" in capfd.readouterr().err


def test_draw_net_writes_dot(folder, tmp_path):
    out = tmp_path / "net.dot"
    assert (
        draw_net.main(
            [
                str(folder / "net.prototxt"),
                str(out),
                "--phase",
                "TRAIN",
                "-rankdir",
                "TB",
                "--display_lrm",
            ]
        )
        == 0
    )
    text = out.read_text()
    assert "rankdir=TB" in text and "lr mult: 1.0, 2.0" in text and "layer:test" not in text


def test_parse_log_reads_this_commands_log(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    main.main(command_cases.COMMANDS["train"][1:])
    (tmp_path / "log").write_text(capfd.readouterr().err)
    assert parse_log.main([str(tmp_path / "log"), str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "log.train").read_text().splitlines()))
    assert [(row["NumIters"], row["LearningRate"]) for row in rows] == [
        ("0.0", "0.1"),
        ("2.0", "0.1"),
        ("4.0", "0.05"),
    ]
    tests = csv.DictReader((tmp_path / "log.test").read_text().splitlines())
    assert [row["NumIters"] for row in tests] == ["0.0", "3.0", "6.0"]


COUNTED = """
layer { name: "data" type: "Data" top: "data" top: "label" }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 group: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
        convolution_param { num_output: 3 kernel_size: 2 bias_term: false } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
        num_output: 5 } }
layer { name: "fc2" type: "InnerProduct" bottom: "fc" top: "fc2" param { name: "w" }
        inner_product_param { num_output: 5 bias_term: false } }
layer { name: "fc3" type: "InnerProduct" bottom: "fc2" top: "fc3" param { name: "w" }
        inner_product_param { num_output: 5 bias_term: false } }
"""


def test_summary_counts_by_definition(tmp_path):
    param = summarize.with_input(parse_text(COUNTED, caffe_pb2.NetParameter()), "2,4,8,8")
    net = caffe.Net(param, caffe.TEST)
    rows = {row[0]: row[2:] for row in summarize.summary(net)}
    assert rows["data"] == ([(2, 4, 8, 8), (2,)], 0, 0, 4 * (512 + 2))
    # 6 filters of 2 x 3 x 3 at 6 x 6 places in 2 images, a multiplication and an addition each
    assert rows["conv"] == ([(2, 6, 6, 6)], 6 * 18 + 6, 2 * 2 * 36 * 6 * 18, 4 * 432)
    assert rows["relu"] == ([(2, 6, 6, 6)], 0, 432, 0)
    assert rows["pool"] == ([(2, 6, 3, 3)], 0, 108 * 4, 4 * 108)
    assert rows["up"] == ([(2, 3, 4, 4)], 6 * 3 * 4, 2 * 2 * 9 * 72, 4 * 96)
    assert rows["fc"] == ([(2, 5)], 54 * 5 + 5, 2 * 2 * 270, 40)
    assert rows["fc2"][1:3] == (25, 2 * 2 * 25)
    assert rows["fc3"][1:3] == (0, 2 * 2 * 25)  # shares the weights


def test_summarize_prints_a_table(folder, tmp_path, capsys):
    assert summarize.main([str(folder / "deploy.prototxt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "MFLOP", "KiB"]
    net = caffe.Net(read_net(str(folder / "deploy.prototxt")), caffe.TEST)
    total = sum(blob.count for blobs in net.params.values() for blob in blobs)
    assert lines[-2].split()[:2] == ["total", str(total)]
    assert summarize.main([str(folder / "deploy.prototxt"), "-input", "1,x"]) == 1
