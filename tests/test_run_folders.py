"""The folder of a run: one run at a time, no folder twice, and the snapshots that stay in it."""

import errno
import fcntl
import itertools
import os
import re
import subprocess
import sys
import time

import pytest

import unwatched_cases
from relaybp import snapshots
from relaybp.commands.train import arguments, find_folder, leave_no_folder
from relaybp.errors import RelayError
from relaybp.lock import Lock, is_held
from relaybp.run_plan import own_folder
from test_train import ROOT
from unwatched_cases import Training, make, rows


def test_two_processes_in_one_folder(tmp_path):
    lock = Lock(str(tmp_path / "run"))
    try:
        assert re.search(
            rf"run: process {os.getpid()} on \S+, since \S+ \S+, trains in this folder",
            locked_by_another(tmp_path / "run"),
        )
    finally:
        lock.release()
    assert locked_by_another(tmp_path / "run") == "locked"


def locked_by_another(run):
    """What another process says that locks a folder."""
    said = run / "said"
    unwatched_cases.import_everything()
    process = unwatched_cases.FORKS.Process(target=_lock, args=(str(run), said))
    process.start()
    process.join()
    return said.read_text()


def _lock(run, said):
    try:
        Lock(run)
        said.write_text("locked")
    except RelayError as error:
        said.write_text(str(error))


def test_a_process_that_asks_about_its_own_folder_keeps_it(tmp_path):
    run, name = tmp_path / "run", tmp_path / "name"
    lock = Lock(str(run))
    name.symlink_to(run)
    assert is_held(str(run)) and is_held(str(name))
    with pytest.raises(RelayError, match="run: this process trains in this folder already"):
        Lock(str(run))
    assert "trains in this folder" in locked_by_another(run)
    lock.release()
    assert not is_held(str(run)) and locked_by_another(run) == "locked"


def test_whoever_looks_at_a_folder_is_in_nobodys_way(tmp_path):
    """A training that begins at that moment would have been refused every few times."""
    run = str(tmp_path / "run")
    assert not is_held(run) and not os.path.exists(run)
    Lock(run).release()
    unwatched_cases.import_everything()
    looks = unwatched_cases.FORKS.Value("i", 0)
    process = unwatched_cases.FORKS.Process(target=_look, args=(run, looks))
    process.start()
    try:
        while looks.value < 2000:
            assert process.is_alive()
            Lock(run).release()
    finally:
        process.kill()
        process.join()


def _look(run, looks):
    for looks.value in itertools.count():
        is_held(run)


WORKER = """
import os, sys
from relaybp.lock import Lock, is_held
lock, (read, write) = Lock(sys.argv[1]), os.pipe()
if os.fork():
    os._exit(0)
os.close(write)
os.read(read, 1)  # until the parent has ended
print(is_held(sys.argv[1]))
"""


def test_a_worker_that_outlives_its_training_does_not_keep_the_folder(tmp_path):
    words = [sys.executable, "-c", WORKER, str(tmp_path / "run")]
    assert subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout == "False\n"


def test_a_folder_that_cannot_be_locked_is_not_said_to_be_in_use(tmp_path, monkeypatch):
    def lockf(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(RelayError, match="its file lock cannot be locked: No locks available; cho"):
        Lock(str(tmp_path / "run"))


def test_a_second_run_does_not_touch_the_folder_of_a_first(tmp_path):
    folder = make(tmp_path / "run", max_iter=100_000, display=1000, snapshot=0)
    first = Training(folder)
    metrics = folder / "run" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.stat().st_size > 40):
        assert time.monotonic() < deadline and first.processes[0].is_alive()
        time.sleep(0.02)
    second = Training(folder)
    assert second.wait() == 1
    assert f"run: process {first.processes[0].pid} on" in second.text
    assert first.processes[0].is_alive()
    assert first.kill(0)


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "base_lr=1"],
        ["--batch", "3"],
        ["--crop", "3"],
        ["--data", "data"],
        ["--feed", "data"],
        ["--profile", "short"],
        ["--scene", "class_aware=false"],
    ],
    ids=lambda words: words[0],
)
def test_a_solver_of_ones_own_takes_no_option_that_would_be_ignored(tmp_path, words):
    training = Training(make(tmp_path / "run"), *words)
    assert training.wait() == 1
    assert f"{words[0]}: it changes the files of a --model" in training.text
    assert not (tmp_path / "run" / "run").exists()


def test_two_runs_that_start_in_the_same_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [own_folder("runs/small-20260101-000000") for _ in range(3)]
    assert names == [f"runs/small-20260101-000000{more}" for more in ("", "-2", "-3")]
    assert all(os.path.isdir(name) for name in names)


def test_a_run_that_cannot_start_leaves_the_folder_of_another_alone(tmp_path):
    """It saw no folder, and had none of its own when another one began there."""
    run = tmp_path / "run"
    run.mkdir()
    leave_no_folder(str(run), None)
    assert not run.exists()
    first = Lock(str(run))
    leave_no_folder(str(run), None)
    assert (run / "lock").exists()
    leave_no_folder(str(run), first)
    assert not run.exists()
    first.release()


def test_a_folder_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("run"), os.makedirs("other")

    def found(*words):
        args = arguments(["--solver", "solver.prototxt", *words])
        find_folder(args)
        return args.out, args.snapshot

    assert found("--snapshot", "run") == ("run", None)
    assert found("--snapshot", "./run", "--out", "run") == ("./run", None)
    assert found("--snapshot", "auto", "--out", "new") == ("new", None)
    assert found("--snapshot", "a.solverstate") == (None, "a.solverstate")
    with pytest.raises(RelayError, match="--snapshot auto: of which run.* with --out$"):
        found("--snapshot", "auto")
    with pytest.raises(RelayError, match="two folders of one run"):
        found("--snapshot", "run", "--out", "other")
    monkeypatch.chdir(ROOT)
    with pytest.raises(RelayError, match="RESUME=auto: of which run.* with RUN=$"):
        found("--snapshot", "auto")


# ---- retention -----------------------------------------------------------------------------------


def test_the_newest_the_best_and_milestones_stay(tmp_path):
    folder = make(tmp_path / "run", snapshot=5)
    assert Training(folder, "--keep", "2", "--keep-best", "--keep-every", "15").wait() == 0
    tests = {int(row[0]): float(row[3]) for row in rows(folder) if row[1:3] == ["test", "accuracy"]}
    best = max((at for at in tests if at in range(5, 36)), key=tests.__getitem__)
    wanted = sorted({35, 40, 15, 30, best})
    assert snapshots.iterations(str(folder / "run" / "small")) == wanted
    assert best not in (15, 30, 35, 40)
    names = {path.name.partition(".")[2] for path in (folder / "run").glob("small_iter_*")}
    assert names == {"caffemodel", "solverstate", "datastate", "sha256"}
