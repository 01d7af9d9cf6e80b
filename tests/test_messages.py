"""Mistakes at a command line, folders that cannot be written, memory that ends: one line each."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import caffe
from caffe.command import extract_features, main
from caffe.graph import shortage
from caffe_plain.errors import CaffeError, DataError, reason
from caffe_plain.files import complete_folder
from caffe_plain.memory import amount
from relaybp import __main__ as relay
from relaybp.data_prep import errors

ROOT = Path(__file__).parents[1]
NET = """
layer {{ name: "in" type: "DummyData" top: "x" dummy_data_param {{
  shape {{ dim: {batch} dim: 3 dim: {size} dim: {size} }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
  convolution_param {{ num_output: 32 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "relu1" }}
layer {{ name: "pool" type: "Pooling" bottom: "relu1" top: "pool"
  pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "pool" bottom: "pool" top: "loss" }}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET.format(batch=2, size=8))
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1'
    )
    caffe.Net("net.prototxt", caffe.TEST).save("w.caffemodel")
    Path("file").write_text("this is no folder")
    return tmp_path


COMMANDS = {
    "train -solver /": "cannot be read: Is a directory",
    "time -model net.prototxt -iterations -3": "-iterations -3: expected at least 1",
    "time -model net.prototxt -gpu -1": "-gpu -1: expected all or numbers",
    "train -solver solver.prototxt -log_dir file/x": "-log_dir file/x: Not a directory; give a",
    "train -solver solver.prototxt -sigint_effect x": "invalid signal effect 'x'; expected one of",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_the_caffe_command(folder, capsys, words):
    assert main.main(words.split()) == 1
    assert COMMANDS[words] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "words, message",
    [
        ("f out -3 lmdb", "-3 batches; expected at least 1"),
        ("f file/out 1 lmdb", "cannot make the folder file/out: .*: Not a directory"),
    ],
)
def test_extract_features(folder, capsys, words, message):
    words = ["w.caffemodel", "net.prototxt", *words.replace("f ", "pool ", 1).split()]
    assert extract_features.main(words) == 1
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not Path("out").exists()


def test_glogs_variable(folder, caplog, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "loud")
    assert main.main(["time", "-model", "net.prototxt"]) == 1
    assert "GLOG_minloglevel=loud: expected a number from 0 to 3" in caplog.text


@pytest.mark.parametrize("size", ["3xax9", "3x224", "0x1x1", "-1x2x3", ""])
def test_the_size_of_plan(folder, capsys, size):
    with pytest.raises(SystemExit) as stopped:
        relay.run("plan", ["--net", "net.prototxt", f"--size={size}"])
    assert stopped.value.code == 2
    assert f"{size!r}: expected CxHxW, such as 3x224x224" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02cposix\nsystem\n(S'touch x'\ntR."])
def test_what_is_no_state_dict(folder, content):
    Path("x.pth").write_bytes(content)
    with pytest.raises(SystemExit, match="^import_torch: x.pth: not a state dict of PyTorch"):
        relay.run("import-torch", ["x.pth", "net.prototxt", "out"])
    assert not Path("x").exists()


def test_a_folder_that_a_tool_cannot_make(folder):
    with pytest.raises(SystemExit, match=r"^plan: .*file/out: Not a directory$"):
        relay.run("plan", ["--net", "net.prototxt", "--size", "3x8x8", "--out", "file/out"])


def test_a_mistyped_command_and_its_words(folder, capsys):
    with pytest.raises(SystemExit, match="^relay: no command 'evalute': did you mean 'evaluate'"):
        relay.main(["evalute", "runs/a"])
    with pytest.raises(SystemExit) as stopped:
        relay.main(["models", "-x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "relay models: unrecognized arguments: -x; relay models --help lists the options\n"
    )


def run_as(command, monkeypatch):
    """`relay plan`, with another command in place of its own."""
    monkeypatch.setattr(relay, "_command", lambda name: SimpleNamespace(main=command))
    relay.run("plan", [])


@pytest.mark.parametrize("words", [(), ("the same command goes on",)])
def test_ctrl_c_is_one_line(monkeypatch, capsys, words):
    def interrupted():
        raise KeyboardInterrupt(*words)

    with pytest.raises(SystemExit) as stopped:
        run_as(interrupted, monkeypatch)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == ": ".join(["plan", "interrupted", *words]) + "\n"


def test_a_reader_that_has_enough_ends_nothing(monkeypatch, tmp_path):
    """As `| head`: a command goes on with its work."""

    def print_and_write():
        print("a line\n" * 10_000)
        (tmp_path / "done").touch()
        print("the last line")

    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        run_as(print_and_write, monkeypatch)
        assert sys.stdout is stdout
    assert (tmp_path / "done").exists()


def test_a_full_disk_is_still_said(monkeypatch):
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit, match="^plan: No space left on device"):
            run_as(lambda: print("a line"), monkeypatch)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def test_a_home_without_room_for_a_cache_is_no_news(tmp_path):
    environment = {**os.environ, "MPLCONFIGDIR": "/dev/null/cache", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "relaybp", "plot", "--help"],
        env={**environment, "PYTHONPATH": f"{ROOT}/python:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: relay plot") and not done.stderr


# ---- system errors -------------------------------------------------------------------------------

REASONS = [
    (PermissionError(errno.EACCES, "Permission denied", "/out"), "/out: Permission denied; check"),
    (OSError(errno.EROFS, "Read-only file system", b"/out"), "/out: Read-only file system; check"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/out"), "/out: No such file$"),
    (OSError("without a number"), "without a number$"),
    (MemoryError(), r"out of memory; .*\(ulimit -v\)$"),
    (MemoryError("bad_alloc"), "bad_alloc$"),
    (DataError("its own words"), "its own words$"),
    (CaffeError(), "CaffeError$"),
]


@pytest.mark.parametrize("error, message", REASONS)
def test_reasons_are_never_empty(error, message):
    assert re.match(message, reason(error))


@pytest.mark.parametrize("error", [error for error, _ in REASONS[:5]])
def test_programs_end_with_a_line(error, capsys):
    def fail(*options):
        raise error

    with pytest.raises(SystemExit, match=re.escape(reason(error))):
        errors.run(fail)
    parser = main.parser()
    assert main.run(parser, fail, ["time"]) == 1
    assert reason(error) in capsys.readouterr().err


def test_a_folder_below_a_file(folder):
    expected = pytest.raises(DataError, match="^cannot make the folder file/a: .*Not a directory")
    with expected, complete_folder("file/a"):
        pass


# ---- out of memory -------------------------------------------------------------------------------


def limited(megabytes, program, *words):
    """Run a Python program within so much more address space than importing caffe takes."""
    code = f"""
import resource, sys
import caffe
from caffe_plain.memory import used_bytes
from caffe.command import main
resource.setrlimit(resource.RLIMIT_AS, (1 << 62, -1))  # used_bytes now counts address space
resource.setrlimit(resource.RLIMIT_AS, (used_bytes() + ({megabytes} << 20), -1))
{program}
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def test_out_of_memory_names_the_layer_and_a_batch_that_fits(folder):
    def time(batch):
        Path("net.prototxt").write_text(NET.format(batch=batch, size=226))
        return limited(
            700,
            "sys.exit(main.main(sys.argv[1:]))",
            *["time", "-model", "net.prototxt", "-iterations", "1", "-minloglevel", "2"],
        )

    status, shown = time(200)  # its values take 1.2 GiB, and as much again for each of three
    found = re.search(
        r"layer '(conv1|relu1)' \(\w+\) is out of memory in forward on bottoms \[.*\]: it asked "
        r"for 1.2 GiB, and of [\d.]+ GiB [\d.]+ [GM]iB are in use; the batch of 200 takes up to "
        r"[\d.]+ GiB: a batch of (\d+) would fit",
        shown,
    )
    assert status == 1 and found, shown
    assert 5 <= int(found[2]) < 100
    assert time(int(found[2]))[0] == 0


def test_a_set_up_without_memory_says_so(folder):
    Path("net.prototxt").write_text(
        NET.format(batch=1, size=3)
        + """layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
        num_output: 20000000 weight_filler { type: "msra" } } }"""
    )
    status, shown = limited(500, "caffe.Net('net.prototxt', caffe.TEST)")
    assert status and re.search(
        r"OutOfMemoryError: layer 'fc' \(InnerProduct\) is out of memory in its set-up on bottoms "
        r"\[\(1, 32, 1, 1\)\]: it asked for 2.4 GiB",
        shown,
    )


def test_other_errors_are_no_shortage():
    assert not shortage.is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert shortage.is_shortage(np.exceptions.AxisError("x")) is False
    assert shortage.is_shortage(RuntimeError("std::bad_alloc"))


def test_amounts():
    assert [amount(size) for size in (5, 3 << 20, 5 << 29)] == ["5 bytes", "3.0 MiB", "2.5 GiB"]
