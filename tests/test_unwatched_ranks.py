"""A run in several processes that nobody watches: one dies, all end, any number goes on."""

import json
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
import unwatched_cases
from caffe.proto import caffe_pb2
from relaybp import batch_change, identity, launcher, snapshots
from relaybp.commands import train
from relaybp.distributed import Alone
from relaybp.errors import RelayError
from test_unwatched import assert_same_run, undisturbed  # noqa: F401  a fixture
from unwatched_cases import Training, make, state

ROOT = Path(__file__).parent.parent
LAST, BATCH = unwatched_cases.SETTINGS["max_iter"], 8  # of a process
ENDS_WITHIN_S = 30
BEGINS_WITHIN_S = 300  # where everything is slow


def position(folder, iteration=LAST):
    """How many records a run has taken up to an iteration."""
    path = folder / "run" / f"small_iter_{iteration}.datastate"
    return json.loads(path.read_text())["nets"][0]["data"]


# ---- one dies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase, rank",
    [("start", 0), ("iteration", 0), ("iteration", 1), ("update", 0), ("update", 1), ("test", 0)],
)
def test_a_dead_process_ends_the_others_and_the_run_goes_on(tmp_path, undisturbed, phase, rank):  # noqa: F811
    """The first of them saves what the second's death has left whole."""
    folder = make(tmp_path / "run")
    training = Training(folder, at=(phase, signal.SIGKILL), ranks=2, rank=rank)
    training.processes[rank].join()
    assert training.processes[rank].exitcode == -signal.SIGKILL
    status = training.wait(ENDS_WITHIN_S)
    if rank == 1:
        assert status == 1 and "process 0 of 2 lost another one" in training.text
        saved = snapshots.newest(str(folder / "run" / "small"))[0]
        assert saved.endswith(f"_{state(folder)[1]}.solverstate")
        assert state(folder)[1] in ((5, 6) if phase == "iteration" else (11, 12))
    assert Training(folder, ranks=2).wait() == 0
    assert_same_run(folder, undisturbed("RELAY", 2))


# ---- another number of processes -----------------------------------------------------------------


@pytest.mark.parametrize("before, after", [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_in_another_number_of_processes(tmp_path, before, after):
    """Records go on where they were: what all processes have taken is counted."""
    folder = make(tmp_path / "run")
    assert Training(folder, at=("iteration", signal.SIGTERM), ranks=before).wait() == 143
    assert state(folder) == ("interrupted", 6)
    assert position(folder, 6) == 6 * before * BATCH
    training = Training(folder, ranks=after)
    assert training.wait() == 0, training.text
    assert (
        f"instead of {before}: an update takes {after * BATCH} images instead of {before * BATCH}"
        in training.text
    )
    assert state(folder) == ("finished", LAST)
    assert position(folder) == (6 * before + (LAST - 6) * after) * BATCH
    batch = identity.read(str(folder / "run"))["identity"]["batch"]
    assert batch["processes"] == after
    assert batch["before"].startswith(f"{before * BATCH} images in {before} process")
    assert batch["before"].endswith("up to iteration 6; ")


def test_what_a_batch_was_before_is_a_part_of_a_run():
    two, one = ({"images": 8 * n, "per_pass": 8, "processes": n} for n in (2, 1))
    mixed = batch_change.record(two, one, 40)
    assert mixed == {**one, "before": "16 images in 2 processes up to iteration 40; "}
    assert batch_change.record(mixed, one, 50) == mixed
    assert batch_change.record(mixed, two, 60)["before"].endswith(
        "8 images in 1 process up to iteration 60; "
    )
    assert batch_change.record(two, one, 0) == one  # nothing was trained
    assert batch_change.is_allowed(two, one) and batch_change.is_allowed(mixed, one)
    assert not batch_change.is_allowed(mixed, {**one, "images": 9})
    lines = identity.differences({"batch": mixed}, {"batch": one})
    assert lines == ["batch: before 16 images in 2 processes up to iteration 40;  instead of none"]


# ---- launchers -----------------------------------------------------------------------------------

LONG = {"max_iter": 100_000, "display": 20, "snapshot": 0, "test_interval": 100_000}


def start(folder, *launcher, gpu="none", words=(), program=ROOT / "tools" / "train.py"):
    command = [sys.executable, *launcher, str(program), "--gpu", gpu]
    command += ["--solver", "solver.prototxt", "--relay", "relay.prototxt", "--out", "run", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with open(folder / "printed", "a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def wait_until_it_trains(folder, process, iteration=20):
    metrics, deadline = folder / "run" / "metrics.csv", time.monotonic() + BEGINS_WITHIN_S
    while not (metrics.exists() and f"\n{iteration},train" in metrics.read_text()):
        assert time.monotonic() < deadline, (folder / "printed").read_text()
        assert process.poll() is None, (folder / "printed").read_text()
        time.sleep(0.02)


def ranks_of(pid):
    """The processes that train, of a launcher."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


END_WITH = """
import os, signal, sys, time
folder, rank, count = sys.argv[1], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
open(f"{folder}/{rank}", "w").close()
while len(os.listdir(folder)) < count: time.sleep(0.001)
seconds, status = sys.argv[2 + rank].split(":")
time.sleep(float(seconds))
os.kill(os.getpid(), -int(status)) if int(status) < 0 else sys.exit(int(status))
"""


@pytest.mark.parametrize(
    "ends, status",
    [
        (["0:0", "0:0"], 0),
        (["0:1", "0.5:1"], 1),
        (["0:1", "0.5:-9"], 137),  # its sockets close before it is seen to have ended
        (["0.5:-9", "0:1"], 137),
        (["0:1", "0:3", "600:0"], 3),  # the third is ended, for which it is not to blame
        (["0:1", "600:0"], 1),
    ],
)
def test_the_status_is_that_of_the_cause(tmp_path, ends, status):
    """Not that of a process that has lost another one (1), whichever is seen first.

    The seconds begin when all have started, which can take long.
    """
    assert launcher.launch(["-c", END_WITH, str(tmp_path), *ends], len(ends)) == status


def test_a_process_that_takes_long_to_die_is_still_the_cause(tmp_path, monkeypatch):
    """The kernel frees its memory, while the other has lost it and both were asked to end."""
    monkeypatch.setattr(launcher, "ASKED_AFTER_S", 0.1)
    ignoring = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + END_WITH
    assert launcher.launch(["-c", ignoring, str(tmp_path), "0:1", "2:-9"], 2) == 137


TAKE_PORT = """
import os, socket, sys
try: socket.socket().bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
except OSError: sys.exit(0)
sys.exit(3)
"""


def test_nobody_can_take_the_port_where_the_processes_will_meet():
    assert launcher.launch(["-c", TAKE_PORT], 2) == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_several_gpus_end_with_the_status_of_one(tmp_path, number):
    """A signal to the launcher, and SIGKILL of one of its processes."""
    folder = make(tmp_path / "run", **LONG)
    process = start(folder, gpu="none,none")
    wait_until_it_trains(folder, process)
    ranks = ranks_of(process.pid)
    assert len(ranks) == 2
    sent = time.monotonic()
    os.kill(ranks[1] if number == signal.SIGKILL else process.pid, number)
    assert process.wait(ENDS_WITHIN_S) == 128 + number, (folder / "printed").read_text()
    assert time.monotonic() < sent + ENDS_WITHIN_S
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    kind, at = state(folder)
    assert kind == "interrupted" and at >= 20
    assert snapshots.iterations(str(folder / "run" / "small")) == [at]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
TORCHRUN += ["--max-restarts=2"]


KILLED_ONCE = """
import os, signal, sys
import unwatched_cases
if os.environ["RANK"] == "1" and not os.path.exists("killed"):
    open("killed", "w").close()
    unwatched_cases.send_in("iteration", signal.SIGKILL)
unwatched_cases.relay("train", sys.argv[1:])
"""


def test_torchrun_starts_a_run_again_where_it_was(tmp_path, undisturbed):  # noqa: F811
    folder = make(tmp_path / "run")
    (folder / "train.py").write_text(KILLED_ONCE)
    process = start(folder, *TORCHRUN, program="train.py")
    assert process.wait(300) == 0, (folder / "printed").read_text()
    assert "Going on from run/small_iter_" in (folder / "printed").read_text()
    assert_same_run(folder, undisturbed("RELAY", 2))


@pytest.mark.heavy
def test_torchrun_does_not_start_a_run_again_that_was_stopped(tmp_path):
    """It knows the status 1 alone; run.json says that the run is not finished."""
    folder = make(tmp_path / "run", **LONG)
    process = start(folder, *TORCHRUN, words=("--time-limit", "0:00:08"))
    assert process.wait(120) == 1
    assert (folder / "printed").read_text().count("Snapshot: ") == 1
    assert state(folder)[0] == "interrupted"


def test_torchrun_needs_to_know_where_a_run_goes_on(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(RelayError, match="which folder is the run to go on in.* --out"):
        train.plan_together(None, train.arguments(["--model", "resnet20"]), Alone())


# ---- not finite ----------------------------------------------------------------------------------


def spoil(folder, number):
    """Give one record of the training data a value that is NaN; odd ones go to process 1 of 2."""
    with (
        lmdb.open(str(folder / "data" / "train_lmdb")) as environment,
        environment.begin(write=True) as transaction,
        transaction.cursor() as cursor,
    ):
        key, value = list(cursor)[number]
        pixels = caffe.io.datum_to_array(caffe_pb2.Datum.FromString(value)).astype(float)
        pixels[0, 3, 3] = np.nan
        datum = caffe.io.array_to_datum(pixels, caffe_pb2.Datum.FromString(value).label)
        transaction.put(key, datum.SerializeToString())


@pytest.mark.parametrize("on_nan", ["stop", "skip", "rollback"])
def test_what_is_not_finite_in_one_process_concerns_all(tmp_path, on_nan):
    """Record 33 is in the third batch of 16, which process 1 takes; an epoch has 50 records."""
    folder = make(tmp_path / "run", max_iter=8, snapshot=2)
    spoil(folder, 33)
    training = Training(folder, "--on-nan", on_nan, ranks=2)
    status = training.wait()
    named = r"iteration 2: process 1 of 2: layer 'data' .* is the first where 1 of .* record '0+33'"
    assert re.search(named, training.text), training.text
    assert len(re.findall(named, training.text)) == 1
    if on_nan == "stop":
        assert status == training.processes[1].exitcode == 1
        assert state(folder) == ("interrupted", 2)
    else:
        assert status == training.processes[1].exitcode == 0, training.text
        assert state(folder) == ("finished", 8)
        assert position(folder, 8) == (8 + 3) * 2 * BATCH  # it has come three times
