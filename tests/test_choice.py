"""Choice: the faster way is taken, remembered, and part of a run's state."""

import json
import time

import pytest
import torch

from caffe.kernels import choice


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing known, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "_chosen", {})
    choice._known.cache_clear()
    choice.set_measured(True)
    yield
    choice._known.cache_clear()
    choice.set_measured(False)


class Ways:
    """Two ways, one slower, which count how often they are called."""

    def __init__(self, slow):
        self.slow, self.calls = slow, {"first": 0, "second": 0}

    def _call(self, name):
        self.calls[name] += 1
        if name == self.slow:
            time.sleep(0.02)

    def fastest(self, details="4 x 4"):
        ways = {name: (lambda name=name: self._call(name)) for name in self.calls}
        return choice.fastest("operation", details, ways)


@pytest.mark.parametrize(("slow", "expected"), [("first", "second"), ("second", "first")])
def test_the_faster_way_is_taken_and_measured_once(slow, expected):
    ways = Ways(slow)
    assert ways.fastest() == expected
    calls = dict(ways.calls)
    assert ways.fastest() == expected
    assert ways.calls == calls
    ways.fastest("another shape")
    assert all(ways.calls[name] > calls[name] for name in calls)


def test_the_first_way_is_taken_where_nothing_is_measured():
    choice.set_measured(False)
    ways = Ways("first")
    assert ways.fastest() == "first"
    assert not any(ways.calls.values())


def test_the_number_of_threads_counts(monkeypatch):
    assert Ways("first").fastest() == "second"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 97)
    assert Ways("second").fastest() == "first"


def test_another_process_knows_what_was_chosen():
    Ways("first").fastest()
    choice._save()
    choice._known.cache_clear()
    ways = Ways("second")  # which would be chosen now
    assert ways.fastest() == "second"
    assert not any(ways.calls.values())


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1}', "\xff"])
def test_a_damaged_file_is_as_good_as_none(text):
    choice._path().parent.mkdir(parents=True)
    choice._path().write_bytes(text.encode("latin-1"))
    assert Ways("first").fastest() == "second"
    choice._save()
    assert "second" in json.loads(choice._path().read_text()).values()


def test_a_run_that_goes_on_takes_the_same_ways():
    Ways("first").fastest()
    state = choice.state()
    choice._known.cache_clear()
    choice.restore(state)
    assert Ways("second").fastest() == "second"


def test_a_way_that_does_not_exist_here_is_measured_again():
    Ways("first").fastest()
    choice.restore(dict.fromkeys(choice.state(), "third"))
    assert Ways("first").fastest() == "second"
