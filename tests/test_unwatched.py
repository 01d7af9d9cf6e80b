"""A run that nobody watches: killed, signalled, without room or a terminal, it goes on."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import unwatched_cases
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from relaybp import snapshots
from relaybp.run_plan import make_plan
from relaybp.train_options import arguments
from unwatched_cases import RELAYS, Training, make, rows, state, weights

ROOT = Path(__file__).parent.parent
LAST = unwatched_cases.SETTINGS["max_iter"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """(schedule, processes) -> the folder of a run that nothing has disturbed; the file `seconds`
    tells how long it took."""
    found = {}

    def run(relay="RELAY", ranks=1):
        if (relay, ranks) not in found:
            folder = make(tmp_path_factory.mktemp("undisturbed") / relay, relay)
            (folder / "seconds").write_text(str(seconds_of(folder, ranks)))
            found[relay, ranks] = folder
        return found[relay, ranks]

    return run


def seconds_of(folder, ranks):
    """Train a run to its end; how long that takes."""
    begun = time.monotonic()
    assert Training(folder, ranks=ranks).wait() == 0
    return time.monotonic() - begun


def assert_same_run(folder, wanted):
    assert weights(folder) == weights(wanted)
    assert rows(folder) == rows(wanted)
    assert state(folder) == ("finished", LAST)
    assert not list((folder / "run").glob(".*.tmp"))


# ---- killed --------------------------------------------------------------------------------------


def kill_and_go_on(folder, kills, seed, seconds, ranks=1):
    """Kill a run at random moments, beginning with another where one has finished meanwhile.

    seconds: how long an undisturbed one takes.
    """
    draws, done = random.Random(seed), 0
    while done < kills:
        training = Training(folder, ranks=ranks)
        if training.kill(draws.uniform(0, seconds)):
            done += 1
        else:
            yield training
            subprocess.run(["rm", "-r", folder / "run"], check=True)
    has_snapshot = snapshots.newest(str(folder / "run" / "small"))[0] is not None
    (folder / "printed").unlink()  # what those before have said
    training = Training(folder, ranks=ranks)
    assert training.wait() == 0, training.text
    assert ("Going on from" in training.text) == has_snapshot
    yield training


@pytest.mark.parametrize(
    "relay, ranks, kills", [("RELAY", 1, 5), ("MULTI_WAY", 1, 5), ("RELAY", 2, 10)]
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, undisturbed, relay, ranks, kills):
    folder = make(tmp_path / "killed", relay)
    seconds = float((undisturbed(relay, ranks) / "seconds").read_text())
    for training in kill_and_go_on(folder, kills, relay, seconds, ranks):
        assert training.wait() == 0, training.text
        assert_same_run(folder, undisturbed(relay, ranks))


@pytest.mark.parametrize("phase", ["start", "iteration", "update", "test", "snapshot"])
def test_a_run_that_is_killed_in_any_phase_goes_on_to_the_same_bits(tmp_path, undisturbed, phase):
    folder = make(tmp_path / "killed")
    assert Training(folder, at=(phase, signal.SIGKILL)).wait() == 128 + signal.SIGKILL
    assert Training(folder).wait() == 0
    assert_same_run(folder, undisturbed())


@pytest.mark.heavy
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_hundred_kills(tmp_path, relay, kind, ranks):
    settings = {"type": kind, "momentum2": 0.999, "snapshot": 2}
    wanted, folder = (make(tmp_path / name, relay, **settings) for name in ("whole", "killed"))
    seconds = seconds_of(wanted, ranks)
    for training in kill_and_go_on(folder, 100, kind + relay, seconds, ranks):
        assert training.wait() == 0, training.text
        assert_same_run(folder, wanted)


def test_leftovers_of_killed_writers_go(tmp_path):
    folder = make(tmp_path / "run")
    assert Training(folder, at=("start", signal.SIGTERM)).wait() == 143
    left = folder / "run" / ".small_iter_4.caffemodel.0123abcd.tmp"
    others = folder / "run" / ".mine.tmp"
    left.touch(), others.touch()
    assert Training(folder).wait() == 0
    assert not left.exists() and others.exists()


def test_rows_of_before_are_not_doubled_and_torn_ones_go(tmp_path, undisturbed):
    folder = make(tmp_path / "run")
    assert Training(folder, at=("iteration", signal.SIGTERM)).wait() == 143  # after 6 iterations
    with (folder / "run" / "metrics.csv").open("a") as file:
        file.write("7,train,loss,0.5\n6,test,accuracy,0.1\n6,train,lo")
    assert Training(folder).wait() == 0
    assert_same_run(folder, undisturbed())


# ---- signalled -----------------------------------------------------------------------------------


def test_a_time_limit(tmp_path, undisturbed):
    folder = make(tmp_path / "run")
    training = Training(folder, "--time-limit", "0:00:00")
    assert training.wait() == 128 + signal.SIGXCPU
    words = "time limit of 0:00:00 reached: a snapshot and the end come after this batch"
    assert words in training.text
    assert Training(folder, "--time-limit", "1-0:00:00").wait() == 0
    assert_same_run(folder, undisturbed())


def test_a_time_limit_that_is_none(tmp_path):
    training = Training(make(tmp_path / "run"), "--time-limit", "12h")
    assert training.wait() == 2
    assert "'12h': expected [days-]hours:minutes:seconds" in training.text


@pytest.mark.parametrize(
    "words, message",
    [
        (["--batch", "-3"], "'-3': expected a number of at least 1"),
        (["--crop", "0"], "'0': expected a number of at least 1"),
        (["--set", "base_lr 0.1"], "'base_lr 0.1': expected FIELD=VALUE, as in base_lr=0.1"),
        (["--scene", "mirror"], "'mirror': expected FIELD=VALUE"),
        (["--keep", "none"], "'none': expected a number of at least 1"),
    ],
)
def test_an_option_that_is_none(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        arguments(["--model", "resnet20", *words])
    assert message in capsys.readouterr().err


def test_a_setting_that_is_none_is_said_before_the_demo_is_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = arguments(["--model", "resnet20", "--out", "run", "--set", "base_lr="])
    with pytest.raises(CaffeError, match="--set base_lr=: no value; expected base_lr=VALUE"):
        make_plan(caffe_pb2, args)
    assert not list(tmp_path.iterdir())


def test_slurm_requeues_a_run_until_it_has_finished(tmp_path):
    folder = make(tmp_path / "run", max_iter=3000, display=100, snapshot=0, test_interval=1000)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/queued\n')
    (tools / "scontrol").chmod(0o755)
    words = ["--gpu", "none", "--solver", "solver.prototxt", "--relay", "relay.prototxt"]
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "TRAIN": f"{sys.executable} -m relaybp train",
        "SLURM_JOB_ID": "4711",
    }

    def job():
        return subprocess.Popen(
            ["bash", str(ROOT / "examples" / "slurm" / "train.sh"), *words, "--out", "run"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    first, metrics = job(), folder / "run" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and "100,train" in metrics.read_text()):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGUSR1)
    text, _ = first.communicate(timeout=300)
    assert first.returncode == 138, text
    assert (tmp_path / "queued").read_text() == "requeue 4711\n"
    at = state(folder)[1]
    second = job()
    text, _ = second.communicate(timeout=300)
    assert second.returncode == 0, text
    assert f"Going on from run/small_iter_{at}.solverstate" in text
    assert state(folder) == ("finished", 3000)
    assert (tmp_path / "queued").read_text() == "requeue 4711\n"


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("relay", RELAYS)
def test_an_error_in_an_iteration_leaves_a_snapshot_of_the_last_whole_one(
    tmp_path, undisturbed, relay
):
    """The batch of iteration 6 has been read, and the masks of dropout are drawn."""
    folder = make(tmp_path / "run", relay)
    training = Training(folder, at=("iteration", None))
    assert training.wait() == 1
    assert "Snapshot: run/small_iter_5.solverstate" in training.text
    assert "train: a broken layer" in training.text
    assert state(folder) == ("interrupted", 5)
    assert Training(folder).wait() == 0
    assert_same_run(folder, undisturbed(relay))


def test_an_error_between_the_updates_of_an_iteration_leaves_none(tmp_path, undisturbed):
    folder = make(tmp_path / "run", "MULTI_WAY")
    training = Training(folder, at=("update", None))
    assert training.wait() == 1
    assert "No snapshot: an iteration was half done" in training.text
    assert snapshots.iterations(str(folder / "run" / "small")) == [4]
    assert Training(folder).wait() == 0
    assert_same_run(folder, undisturbed("MULTI_WAY"))


# ---- no room, no terminal ------------------------------------------------------------------------


def test_a_terminal_that_lacks_letters_ends_nothing(tmp_path, undisturbed):
    """Other faults of terminals and disks: test_faults.py."""
    folder = make(tmp_path / "r\N{SNOWMAN}n")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONIOENCODING": "latin-1:strict",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "relaybp", "train", "--gpu", "none", "--fixed-ways", "--out"]
    command += [str(folder / "run"), "--solver", "solver.prototxt", "--relay", "relay.prototxt"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0 and b"/r?n/run" in done.stdout
    assert_same_run(folder, undisturbed())


# ---- not finite ----------------------------------------------------------------------------------


def test_a_run_that_diverges_ends_at_once_and_keeps_what_is_good(tmp_path):
    folder = make(tmp_path / "run", base_lr=1e9, snapshot=1)
    training = Training(folder)
    assert training.wait() == 1
    found = re.search(
        r"train: iteration (\d+): layer '(\w+)' \(\w+\) is the first where .* are NaN or infinite; "
        r"the batch was read by layer 'data': any of the 8 from record '000000(\d\d)' of data/",
        training.text,
    )
    at = int(found[1])
    assert 0 < at < 5 and int(found[3]) == 8 * at
    assert f"The newest whole snapshot is run/small_iter_{at}.solverstate" in training.text
    assert state(folder) == ("interrupted", at)
    assert snapshots.iterations(str(folder / "run" / "small")) == [*range(1, at + 1)]
    assert "error 0.00 %" not in training.text
