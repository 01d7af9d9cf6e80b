"""A snapshot is one unit: a part that is missing or has other bits is named."""

import os
import random
import subprocess
import time

import pytest

import caffe
import schedule_cases
from caffe_plain.errors import DataError
from caffe_plain.snapshots import newest_weights
from nets import AUXILIARY
from relaybp import relay_file, snapshots

PARTS = ["aux2_loss.solverstate", "aux3_loss.solverstate", "caffemodel", "datastate", "solverstate"]


@pytest.fixture
def run(tmp_path):
    """(folder, relay) with snapshots of MULTI_WAY after 1 and 2 iterations."""
    relay = attach(tmp_path)
    for _ in range(2):
        relay.iterate()
        relay.snapshot()
    return tmp_path, relay


def attach(folder):
    return schedule_cases.attach(
        caffe, str(folder), relay_file.parse_relay("schedule: MULTI_WAY"), AUXILIARY
    )


def newest(folder):
    return snapshots.newest(str(folder / "a"))


def test_the_list_is_that_of_sha256sum(run):
    folder, _ = run
    text = (folder / "a_iter_2.sha256").read_text()
    assert [line.split("  ")[1] for line in text.splitlines()] == [f"a_iter_2.{x}" for x in PARTS]
    done = subprocess.run(["sha256sum", "-c", "a_iter_2.sha256"], cwd=folder, check=True)
    assert done.returncode == 0
    assert newest(folder) == (str(folder / "a_iter_2.solverstate"), [])


def test_the_weights_that_are_used_are_of_the_newest_whole_snapshot(run, capsys):
    folder, _ = run
    assert newest_weights(str(folder)) == str(folder / "a_iter_2.caffemodel")
    (folder / "a_iter_3.caffemodel").write_bytes(b"half")  # its list comes last
    (folder / "a_iter_2.datastate").write_bytes(b"damaged")
    capsys.readouterr()
    assert newest_weights(str(folder)) == str(folder / "a_iter_1.caffemodel")
    first, second = capsys.readouterr().err.splitlines()
    assert "a_iter_3: not whole" in first and "a_iter_2.datastate is damaged" in second
    (folder / "a_iter_1.sha256").unlink()
    with pytest.raises(DataError, match="no snapshot.*\n.*_3: not.*\n.*_2.*damaged.*\n.*_1: not"):
        newest_weights(str(folder))
    (folder / "a_iter_2.sha256").unlink()  # as BVLC Caffe leaves them
    assert newest_weights(str(folder)) == str(folder / "a_iter_3.caffemodel")
    (folder / "b_iter_10.caffemodel.h5").touch()
    (folder / "b_iter_11.solverstate").touch()
    assert newest_weights(str(folder)) == str(folder / "b_iter_10.caffemodel.h5")


def test_a_folder_that_is_missing_is_told_from_one_without_snapshots(tmp_path, monkeypatch):
    """The newest run beside it is named, else the newest below runs/."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="^run/two: no such folder; expected one that a training"):
        newest_weights("run/two")
    for age, name in enumerate(["runs/new", "runs/old", "mine/x"]):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
        os.utime(tmp_path / name / "run.json", (time.time() - age * 100,) * 2)
    (tmp_path / "runs" / "tables").mkdir()
    newest_run = {"run/two": "runs/new", "runs/x": "runs/new", "mine/y": "mine/x"}
    for missing, run in newest_run.items():
        with pytest.raises(
            DataError, match=f"^{missing}: no such folder; the newest run is {run}$"
        ):
            newest_weights(missing)
    with pytest.raises(
        DataError, match=r"^runs/new: no snapshot .*_iter_N.caffemodel\) there; a t"
    ):
        newest_weights("runs/new")


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.heavy)])
def test_every_flipped_bit_is_found(run, count):
    folder, _ = run
    paths, draws = sorted(folder.glob("a_iter_2.*")), random.Random(count)
    for number in range(count):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        spoiled = bytearray(whole)
        spoiled[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        path.write_bytes(spoiled)
        state, problems = newest(folder)
        assert state == str(folder / "a_iter_1.solverstate"), path
        assert len(problems) == 1 and "a_iter_2" in problems[0]
        path.write_bytes(whole)
    assert newest(folder)[1] == []


def test_every_bit_of_the_list(run):
    folder, _ = run
    path = folder / "a_iter_2.sha256"
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        with pytest.raises(DataError):
            snapshots.check(str(folder / "a_iter_2"))


@pytest.mark.parametrize("part", [*PARTS, "sha256"])
@pytest.mark.parametrize("how", ["missing", "cut", "empty"])
def test_a_part_that_is_not_whole_is_named_and_not_resumed(run, part, how):
    folder, relay = run
    path = folder / f"a_iter_2.{part}"
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if how == "cut" else b"")
    state, problems = newest(folder)
    assert state.endswith("a_iter_1.solverstate")
    assert f"a_iter_2.{part}" in problems[0]
    if part != "sha256" or how != "missing":
        with pytest.raises(DataError, match="a_iter_2"):
            relay.restore(str(folder / "a_iter_2.solverstate"))


def test_a_part_of_another_snapshot_is_named(run):
    folder, _ = run
    (folder / "a_iter_2.more_loss.solverstate").write_bytes(b"")
    with pytest.raises(DataError, match=r"a_iter_2\.more_loss\.solverstate does not belong to it"):
        snapshots.check(str(folder / "a_iter_2"))


def test_one_without_a_list_is_taken_where_it_is_named(run):
    """As BVLC Caffe writes them: with JOINT, weights and the solver's state are all there is."""
    folder, relay = run
    (folder / "a_iter_2.sha256").unlink()
    other = attach(folder)
    other.restore(str(folder / "a_iter_2.solverstate"))
    assert other.iter == 2


def test_no_snapshot_is_no_error(tmp_path):
    assert newest(tmp_path / "none") == (None, [])


@pytest.mark.parametrize(
    "keep, best, every, left",
    [
        (1, None, 0, [6]),
        (3, None, 0, [4, 5, 6]),
        (9, None, 0, [1, 2, 3, 4, 5, 6]),
        (1, 2, 0, [2, 6]),
        (1, 6, 0, [6]),
        (2, 1, 3, [1, 3, 5, 6]),
    ],
)
def test_which_snapshots_stay(tmp_path, keep, best, every, left):
    for at in (*range(1, 7), 10):
        (tmp_path / f"a_iter_{at}.caffemodel").touch()
        (tmp_path / f"a_iter_{at}.solverstate").touch()
        if at < 10:  # that of 10 is not whole
            snapshots.seal(str(tmp_path / f"a_iter_{at}.solverstate"))
    other = tmp_path / "a_iter_1x.caffemodel"
    other.touch()
    snapshots.prune(str(tmp_path / "a"), keep, best, every)
    assert snapshots.iterations(str(tmp_path / "a")) == [*left, 10]
    assert len(list(tmp_path.glob("a_iter_*"))) == 3 * len(left) + 2 + 1
