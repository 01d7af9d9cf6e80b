"""A table of what happens: a signal in a phase of a run, with a fault of its terminal or disk.

Each run goes on afterwards, without the fault, to the bits of an undisturbed one.
"""

import re
import signal
import subprocess

import pytest

import unwatched_cases
from relaybp import identity, snapshots
from test_unwatched import undisturbed  # noqa: F401  a fixture
from unwatched_cases import Training, make, repair, weights

LAST = unwatched_cases.SETTINGS["max_iter"]
STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU]
SIGNALS = [*STOPS, signal.SIGHUP]
PHASES = {  # {phase: (after which iteration a signal stops, of which there is a snapshot before)}
    "start": (0, None),
    "iteration": (6, 4),  # after its forward passes
    "update": (12, 8),  # after its backward passes
    "test": (10, 8),  # which is broken off
    "snapshot": (8, 4),  # when the weights are written
}
STOPPED, AT, BEFORE = "128 + signal", "at", "before"
NOT_SAVED = "caffemodel: cannot write .* bytes: File too large"
NOT_HERE = "(caffemodel|sha256): cannot write .* bytes: Permission denied"
# {fault: what a signal to stop, and what SIGHUP does: (status, what is printed, state, newest
# snapshot)}
EXPECTED = {
    "none": [
        (STOPPED, "NAME: a snapshot and the end(.|\n)*at iteration AT\n", "interrupted", AT),
        (0, "NAME: a snapshot comes(.|\n)*Everything lies in run\n", "finished", LAST),
    ],
    "closed pipe": [(STOPPED, "", "interrupted", AT), (0, "", "finished", LAST)],
    "full logs": [(STOPPED, "", "interrupted", AT), (0, "", "finished", LAST)],
    "full disk": [(1, f"train: .*{NOT_SAVED}", "interrupted", BEFORE)] * 2,
    "read-only folder": [(1, f"train: .*{NOT_HERE}", "running", BEFORE)] * 2,
}
OTHERWISE = {  # what differs in one phase
    ("full disk", "snapshot"): [  # its weights are written already
        EXPECTED["none"][0],
        (1, f"train: .*{NOT_SAVED}", "interrupted", AT),
    ],
    ("read-only folder", "start"): [(1, "train: .*cannot write to snapshot_prefix", None, None)]
    * 2,
}


def expected(fault, phase, number):
    """(status, what is printed, state, iteration of the newest snapshot)."""
    rows = OTHERWISE.get((fault, phase), EXPECTED[fault])
    status, printed, state, newest = rows[number == signal.SIGHUP]
    at, before = PHASES[phase]
    return (
        128 + number if status == STOPPED else status,
        printed.replace("NAME", number.name).replace("AT", str(at)),
        state,
        {AT: at, BEFORE: before}.get(newest, newest),
    )


def found(training):
    """The same of a run that has ended."""
    folder, status = training.folder, training.wait()
    state, _ = snapshots.newest(str(folder / "run" / "small"))
    record = identity.read(str(folder / "run"))
    iteration = int(re.findall("[0-9]+", state)[-1]) if state else None
    return status, training.text, record and record["state"], iteration


def check(folder, fault, cases, undisturbed):  # noqa: F811
    """Run cases (phase, signal) with a fault, all at once; then let each go on without it."""
    trainings = [
        Training(make(folder / f"{phase}-{number.name}"), at=(phase, number), fault=fault)
        for phase, number in cases
    ]
    for training, case in zip(trainings, cases, strict=True):
        status, printed, state, newest = found(training)
        wanted = expected(fault, *case)
        assert (status, state, newest) == (wanted[0], *wanted[2:]), (case, printed)
        assert re.search(wanted[1], printed), (case, printed)
        assert "Traceback" not in printed, printed
    again = []
    for training in trainings:
        repair(training.folder)
        again.append(Training(training.folder))
    for training in again:
        assert training.wait() == 0, training.text
        assert weights(training.folder) == weights(undisturbed)
        assert not list((training.folder / "run").glob(".*.tmp"))


@pytest.mark.parametrize("fault", EXPECTED)
def test_every_pair_of_a_fault_a_phase_and_a_signal(tmp_path, undisturbed, fault):  # noqa: F811
    """Each fault with each phase and with each signal, and each phase with each signal."""
    shift = list(EXPECTED).index(fault)
    phases = [*PHASES]
    cases = [(phases[(shift + k) % len(phases)], number) for k, number in enumerate(SIGNALS)]
    check(tmp_path, fault, cases, undisturbed())


@pytest.mark.heavy
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", EXPECTED)
def test_every_fault_phase_and_signal(tmp_path, undisturbed, fault, phase):  # noqa: F811
    check(tmp_path, fault, [(phase, number) for number in SIGNALS], undisturbed())


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a run whose files go to a file system of half a megabyte."""
    folder = make(tmp_path / "small")
    (folder / "run").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder / "run")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["umount", str(folder / "run")], check=True)


def test_a_file_system_that_gets_full(small_disk, undisturbed):  # noqa: F811
    training = Training(small_disk, at=("test", signal.SIGTERM), fault="full file system")
    status, printed, state, newest = found(training)
    assert (status, state, newest) == (1, "running", 8), printed
    assert re.search(r"train: .*caffemodel: cannot write .*: No space left on device", printed)
    assert "Traceback" not in printed
    repair(small_disk)
    assert Training(small_disk).wait() == 0
    assert weights(small_disk) == weights(undisturbed())
