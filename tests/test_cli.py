"""What `relay` says around a command: one-line errors, the next step, how long it will take."""

import functools
import importlib
import os
import re
import runpy
import shlex
import types

import pytest

import caffe
from caffe_plain.flags import FlagParser
from relaybp import __main__ as relay
from relaybp import cli, engines, estimate, run_files
from relaybp.commands import train
from relaybp.engines.interface import refuse_missing
from relaybp.errors import RelayError
from relaybp.run_plan import make_plan
from relaybp.train_options import arguments
from test_train import ROOT


def test_an_error_of_a_command_line_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        arguments(["--model", "x", "--bogus"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unrecognized arguments: --bogus" in line and "--help lists the options" in line


def programs():
    """{name: what runs it} of every command that one can type."""
    found = {
        f"relay {name}": functools.partial(relay.main, [name, "--help"]) for name in relay.COMMANDS
    }
    scripts = re.findall(r'^(\w+) = "(\S+):(\w+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    for name, module, function in scripts:
        found[name] = getattr(importlib.import_module(module), function)
    for path in sorted((ROOT / "data_prep").glob("*.py")):
        if path.name != "__main__.py" and '__name__ == "__main__"' in path.read_text():
            found[path.name] = functools.partial(runpy.run_path, str(path), run_name="__main__")
    return found


@pytest.mark.parametrize("name, run", programs().items())
def test_help_fits_a_terminal_of_80_columns(monkeypatch, capsys, name, run):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    status = None
    try:
        run()
    except SystemExit as end:
        status = end.code
    text = capsys.readouterr().out
    assert not status and text and not [line for line in text.splitlines() if len(line) > 80]


def test_help_fills_paragraphs_and_leaves_examples_as_lines(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "42")  # argparse leaves two of them free
    parser = FlagParser(
        "One two three four five\nsix seven eight nine.\n\n    do --this    with a remark to it\n"
        "    do --the-other\n  word  " + 9 * "more "
    )
    parser.print_help()
    assert (
        capsys.readouterr()
        .out.partition("\n\n")[2]
        .startswith(
            "One two three four five six seven eight\nnine.\n\n"
            "    do --this    with a remark to it\n    do --the-other\n"
            "  word  more more more more more more\n        more more more\n\noptions:"
        )
    )


@pytest.mark.parametrize("command", ["models", "build-info"])
def test_words_that_a_command_does_not_know_are_an_error(monkeypatch, capsys, command):
    monkeypatch.setattr("sys.argv", ["relay"])
    with pytest.raises(SystemExit) as end:
        relay.main([command, "nonsense"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"relay {command}: unrecognized arguments: nonsense")


def test_the_list_of_models_fits_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["relay"])
    relay.main(["models"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 100 and max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", [["--model", ""], ["--model", "x", "--gpu", ""]])
def test_an_empty_variable_of_make_is_an_error(capsys, words):
    with pytest.raises(SystemExit):
        arguments(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{words[-2]} is empty: " in line


@pytest.mark.parametrize(
    "gpus, count, said",
    [
        ("0", 0, "no GPU 0 here: PyTorch sees none"),
        ("1,2", 0, "no GPU 1 and no 2 here: PyTorch sees none"),
        ("0,5", 2, "no GPU 5 here: there are 0 to 1"),
    ],
)
def test_gpus_that_are_not_there_are_one_line(tmp_path, monkeypatch, gpus, count, said):
    for folder, given, none in ((ROOT, "GPU=", "GPU=none"), (tmp_path, "--gpu ", "--gpu none")):
        monkeypatch.chdir(folder)
        with pytest.raises(
            RelayError, match=f"^{given}{gpus}: {said}; {none} computes on the CPU$"
        ):
            refuse_missing(gpus.split(","), count)
    refuse_missing(["0", "1"], 2)


def test_a_gpu_that_is_not_there_is_refused_before_the_engine_fails():
    with pytest.raises(RelayError, match="no GPU 99 here"):
        engines.load().use_device("99")


@pytest.mark.parametrize("gpus", ["98,99", "99"])
def test_a_training_without_its_gpus_ends_with_a_line(gpus):
    with pytest.raises(SystemExit, match=f"^train: .*{gpus}: no GPU 9.* computes on the CPU$"):
        relay.run("train", ["--model", "plain10", "--gpu", gpus])


def test_an_original_caffe_starts_no_several_processes(monkeypatch):
    bvlc = types.SimpleNamespace(gpu_count=lambda: 0, trains_together=False)
    monkeypatch.setattr(engines, "load", lambda: bvlc)
    monkeypatch.setattr("sys.argv", ["relay train", "--model", "plain10", "--gpu", "0,1"])
    with pytest.raises(SystemExit, match="^train: --gpu 0,1: an original Caffe trains in one"):
        train.main()


@pytest.mark.parametrize(
    "words, runs",
    [
        (["runs/a runs/b"], ["runs/a", "runs/b"]),
        (["runs/a@vgg  runs/b@224,256"], ["runs/a@vgg", "runs/b@224,256"]),
        (["my runs/a run"], ["my runs/a run"]),
        (["my runs/a run@vgg"], ["my runs/a run@vgg"]),
        (["'my runs/a run' runs/b"], ["my runs/a run", "runs/b"]),
        (["runs/a", "my runs/a run"], ["runs/a", "my runs/a run"]),
    ],
)
def test_runs_are_named_with_blanks_in_them_and_between_them(tmp_path, monkeypatch, words, runs):
    (tmp_path / "my runs" / "a run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert cli.named_runs(words) == runs


def test_no_run_is_an_error(capsys):
    parser = cli.Parser("relay plot")
    parser.add_argument("run", nargs="+", action=cli.Runs)
    assert parser.parse_args(["a b", "c"]).run == ["a", "b", "c"]
    for words in ([""], [" "], []):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
    assert capsys.readouterr().err.count("RUN is empty: name a run's folder") == 2
    with pytest.raises(SystemExit):
        parser.parse_args(["it's"])
    assert "relay plot: it's: No closing quotation; " in capsys.readouterr().err


CALLS = [  # words of `relay train`, the variables of make, what they cannot say
    (["--model", "resnet20"], {"MODEL": "resnet20"}, []),
    (["--model=resnet20", "--gpu", "auto"], {"MODEL": "resnet20"}, []),
    (
        ["--model", "vgg16", "--gpu", "0,1", "--set", "a=1", "--set", "b=2", "--snapshot", "auto"],
        {"MODEL": "vgg16", "GPU": "0,1", "SET": "a=1 b=2"},
        [],
    ),
    (
        ["--data", "my photos", "--model", "vgg16", "--keep", "3", "--keep-best", "--out", "old"],
        {"MODEL": "vgg16", "DATA": "my photos"},
        ["--keep", "3", "--keep-best"],
    ),
]


@pytest.mark.parametrize("words, variables, more", CALLS)
def test_the_command_that_goes_on_is_the_same_in_that_folder(monkeypatch, words, variables, more):
    monkeypatch.chdir(ROOT)
    make, train, *parts = shlex.split(cli.train_again(words, "runs/my run"))
    found = dict(part.split("=", 1) for part in parts)
    assert [make, train] == ["make", "train"] and shlex.split(found.pop("ARGS", "")) == more
    assert found == {**variables, "RUN": "runs/my run"}


@pytest.mark.parametrize("words", [call[0] for call in CALLS])
def test_outside_of_a_checkout_it_is_relay_train(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    relay, train, *again = shlex.split(cli.train_again(words, "my run"))
    assert [relay, train] == ["relay", "train"]
    expected = vars(arguments(words))
    assert vars(arguments(again)) == {**expected, "out": "my run", "snapshot": None}


def test_the_next_steps_are_commands_that_there_are(tmp_path, monkeypatch):
    makefile = (ROOT / "Makefile").read_text()
    from relaybp.__main__ import COMMANDS

    for folder, program in ((ROOT, "make"), (tmp_path, "relay")):
        monkeypatch.chdir(folder)
        title, *lines = cli.next_steps("runs/a b").splitlines()
        assert title == "Next:" and len(lines) >= 3
        for line in lines:
            words = shlex.split(line, comments=True)  # the whole line is a command
            assert words[0] == program and max(map(len, lines)) <= 80
            assert words[1] in COMMANDS and f"\n{words[1]}: " in makefile
            assert all("runs/a b" in word or "p.jpg" in word for word in words[2:])
    (_, line) = cli.next_steps("runs/a", "make train RUN=runs/a").splitlines()
    assert line == "  make train RUN=runs/a  # go on"


def test_options_are_spelled_as_they_are_typed(tmp_path, monkeypatch):
    for folder, spelled in (
        (ROOT, ["FEED=scene", "DATA='my photos'", "RUN=", 'ARGS="--probe 10%"']),
        (tmp_path, ["--feed scene", "--data 'my photos'", "--out", "--probe 10%"]),
    ):
        monkeypatch.chdir(folder)
        found = [cli.spelled("--feed", "scene"), cli.spelled("--data", "my photos")]
        assert [*found, cli.spelled("--out"), cli.more("--probe 10%")] == spelled


@pytest.fixture
def plan(tmp_path):
    """The plan of a model's whole schedule, on data of four classes."""
    from tests.data_folders import write_folder

    data = write_folder(tmp_path / "data")
    words = ["--model", "resnet50_relay", "--data", str(data), "--out", str(tmp_path / "run")]

    def make(*more):
        found = make_plan(caffe.proto.caffe_pb2, arguments([*words, *more]))
        os.makedirs(found.run, exist_ok=True)
        (tmp_path / "run" / run_files.DEPLOY).write_text(
            (ROOT / "prototxt" / "resnet50_relay" / "deploy.prototxt").read_text()
        )
        return found

    return make


def test_a_long_schedule_on_a_cpu_says_how_long(plan, monkeypatch):
    monkeypatch.setattr(estimate, "_forward_seconds", lambda *_: 0.1)
    line = estimate.warning(caffe, plan())
    # 600,000 x 256 x 0.3 s
    assert line.startswith("NOTE: 600,000 iterations of 256 images take about 18 months on this")
    assert "PROFILE=short" in line
    assert estimate.warning(caffe, plan("--profile", "short")) == ""
    assert estimate.warning(caffe, plan("--set", "max_iter=20")) == ""


def test_what_is_measured_is_the_forward_pass_of_the_deploy_net(plan, monkeypatch):
    shapes = []

    def seconds(net):
        shapes.append(net.blobs["data"].shape)
        return (3.0, 1.0, 2.0)[len(shapes) - 1]

    monkeypatch.setattr(estimate, "_seconds", seconds)
    deploy = estimate.run_folder.read(
        str(ROOT / "prototxt" / "resnet20" / "deploy.prototxt"),
        caffe.proto.caffe_pb2.NetParameter(),
    )
    assert estimate._forward_seconds(caffe, deploy) == 1.0 / 4
    assert shapes == [(4, 3, 32, 32)] * 3


def test_a_long_time_is_said_in_words():
    assert [estimate.rounded(s) for s in (20, 600, 7000, 7300, 86400, 172800, 1e7, 1e9)] == [
        "1 minutes",
        "10 minutes",
        "117 minutes",
        "2 hours",
        "24 hours",
        "2 days",
        "4 months",
        "32 years",
    ]
