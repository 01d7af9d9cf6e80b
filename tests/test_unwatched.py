"""A run that nobody watches: killed, signalled, without room or a terminal, it goes on by itself."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import unwatched_cases
from relaybp import snapshots
from relaybp.errors import RelayError
from relaybp.lock import Lock
from unwatched_cases import RELAYS, Training, make, rows, state, weights

LAST = unwatched_cases.SETTINGS["max_iter"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{schedule: the folder of a run that nothing has disturbed}."""
    found = {}
    for relay in RELAYS:
        found[relay] = make(tmp_path_factory.mktemp("undisturbed") / relay, relay)
        assert Training(found[relay]).wait() == 0
    return found


def assert_same_run(folder, wanted):
    assert weights(folder) == weights(wanted)
    assert rows(folder) == rows(wanted)
    assert state(folder) == ("finished", LAST)
    assert not list((folder / "run").glob(".*.tmp"))


# ---- killed --------------------------------------------------------------------------------------


def kill_and_go_on(folder, kills, seed, longest_s=1.2):
    """Kill a run at random moments, beginning with another where one has finished meanwhile."""
    draws, done = random.Random(seed), 0
    while done < kills:
        training = Training(folder)
        if training.kill(draws.uniform(0, longest_s)):
            done += 1
        else:
            yield training
            subprocess.run(["rm", "-r", folder / "run"], check=True)
    training = Training(folder)
    assert training.wait() == 0, training.text
    yield training


@pytest.mark.parametrize("relay", RELAYS)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, undisturbed, relay):
    folder = make(tmp_path / "killed", relay)
    for training in kill_and_go_on(folder, 10, seed=relay):
        assert training.process.exitcode == 0, training.text
        assert_same_run(folder, undisturbed[relay])


@pytest.mark.heavy
@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_hundred_kills(tmp_path, relay, kind):
    settings = {"type": kind, "momentum2": 0.999, "snapshot": 2}
    wanted, folder = (make(tmp_path / name, relay, **settings) for name in ("whole", "killed"))
    assert Training(wanted).wait() == 0
    for training in kill_and_go_on(folder, 100, seed=kind + relay):
        assert training.process.exitcode == 0, training.text
        assert_same_run(folder, wanted)
