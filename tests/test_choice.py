"""Choice: the faster way is taken, remembered, and part of a run's state."""

import itertools
import json
import time
import weakref

import pytest
import torch

import caffe
from caffe.command import main
from caffe.kernels import choice
from caffe.training import parallel


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing known, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "_chosen", {})
    monkeypatch.setattr(choice, "_found", {})
    choice._known.cache_clear()
    choice.set_measured(True)
    yield
    choice._known.cache_clear()
    choice.set_measured(False)


def forget():
    """As a new process begins, without the file."""
    choice._chosen.clear()
    choice._found.clear()
    choice._taken.clear()
    choice._known.cache_clear()


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


class Weights:
    """What a way needs, and how many there are at most at a time."""

    alive: weakref.WeakSet
    most = 0

    def __init__(self, name):
        self.name = name
        self.alive.add(self)
        Weights.most = max(self.most, len(self.alive))

    def __call__(self):
        time.sleep(0.001 if self.name == "fast" else 0.01)


@pytest.mark.parametrize(
    "names", [*itertools.permutations(["slow", "fast", "slower"])], ids="-".join
)
def test_what_the_slower_ways_need_does_not_stay(names, monkeypatch):
    monkeypatch.setattr(Weights, "alive", weakref.WeakSet(), raising=False)
    monkeypatch.setattr(Weights, "most", 0)
    makers = {name: (lambda name=name: Weights(name)) for name in names}
    made = choice.make_fastest("operation", "4 x 4", makers, lambda made: made)
    assert (made.name, Weights.most, [*Weights.alive]) == ("fast", 2, [made])
    del made
    Weights.most = 0
    again = choice.make_fastest("operation", "4 x 4", makers, lambda made: made)
    assert (again.name, Weights.most) == ("fast", 1)  # known: no other is made


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


def test_what_another_machine_chose_stays_out_of_the_file():
    Ways("first").fastest()
    choice.restore(dict.fromkeys(choice.state(), "first"))
    assert Ways("first").fastest() == "first"  # as the run that goes on did there
    choice._save()
    assert "second" in json.loads(choice._path().read_text()).values()


def test_a_way_that_does_not_exist_here_is_measured_again():
    Ways("first").fastest()
    choice.restore(dict.fromkeys(choice.state(), "third"))
    assert Ways("first").fastest() == "second"


@pytest.mark.parametrize(("seconds", "expected"), [(1.02, "first"), (1.05, "second")])
def test_another_way_than_the_first_must_bring_something(monkeypatch, seconds, expected):
    ways = {"first": lambda: seconds, "second": lambda: 1.0}
    monkeypatch.setattr(choice, "_timer", lambda: lambda way: way())
    assert choice.fastest("operation", "4 x 4", ways) == expected


@pytest.fixture
def half():
    """An operation of two ways, the second for even numbers alone and faster."""
    operation = choice.Operation("half")

    @operation.way("first")
    def _first(number):
        time.sleep(0.02)
        return number / 2, "first"

    @operation.way("second", lambda number: number % 2 == 0)
    def _second(number):
        return number / 2, "second"

    return operation


def test_an_operation_takes_the_fastest_of_the_ways_that_can_do_it(half):
    assert half(4) == (2, "second")
    assert half(3) == (1.5, "first")
    choice.set_measured(False)
    assert half(4) == (2, "first")


def test_an_operation_takes_what_a_state_says(half):
    half(4)
    state = choice.state()
    (key,) = state
    choice.restore({key: "first"})
    assert half(4) == (2, "first")
    assert choice.state() == {key: "first"}


def test_what_is_taken_can_be_noted(half):
    half(4)
    with choice.noting() as noted:
        half(4)
        half(3)  # has one way
    half(4)
    assert noted == [("half", "second")]


def test_tensors_count_by_shape_and_dtype(monkeypatch):
    calls = []
    monkeypatch.setattr(choice, "fastest", lambda name, details, ways: calls.append(1) or "first")
    operation = choice.Operation("sum")
    operation.way("first")(lambda x, axis: x.sum(axis))
    for x, axis in [
        (torch.ones(3, 4), 0),
        (torch.zeros(3, 4), 0),
        (torch.ones(3, 5), 0),
        (torch.ones(3, 4).double(), 0),
        (torch.ones(3, 4), 1),
    ]:
        operation(x, axis)
    assert len(calls) == 4


NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
    shape { dim: 4 dim: 16 dim: 9 dim: 9 } shape { dim: 4 }
    data_filler { type: "gaussian" } data_filler { type: "constant" } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param {
    num_output: 32 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
    num_output: 8 kernel_size: 1 stride: 2 weight_filler { type: "msra" } } }
layer { name: "ip" type: "InnerProduct" bottom: "b" top: "ip" inner_product_param {
    num_output: 5 weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def solver_of(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)

    def make():
        path = tmp_path / "solver.prototxt"
        path.write_text(
            f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 '
            f'random_seed: 3 max_iter: 9 snapshot_prefix: "{tmp_path}/a"'
        )
        return caffe.get_solver(str(path))

    return make


def weights(solver):
    return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def equal(some, others):
    return all((a == b).all() for a, b in zip(some, others, strict=True))


def test_a_resumed_run_has_the_same_bits_whatever_is_faster_now(solver_of, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_measure", lambda ways: list(ways)[-1])
    whole = solver_of()
    whole.step(2)
    whole.snapshot()
    whole.step(3)

    def resumed():
        forget()
        solver = solver_of()
        solver.restore(str(tmp_path / "a_iter_2.solverstate"))
        solver.step(3)
        return weights(solver)

    monkeypatch.setattr(choice, "_measure", lambda ways: next(iter(ways)))
    assert equal(resumed(), weights(whole))
    path = tmp_path / "a_iter_2.datastate"
    state = json.loads(path.read_text())
    assert len(state["choices"]) >= 6
    path.write_text(json.dumps({**state, "choices": {}}))
    assert not equal(resumed(), weights(whole))  # so the choices are what made them equal


def test_processes_that_train_together_take_the_ways_of_the_first(solver_of, monkeypatch):
    restored = []
    monkeypatch.setattr(choice, "restore", lambda state: restored.append(state))
    monkeypatch.setattr(parallel, "said_by_first", lambda state: {"what": "it says"})
    monkeypatch.setattr(parallel.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(parallel.NCCL, "_buckets_of_iteration", lambda self: self)
    monkeypatch.setattr(parallel.NCCL, "finish", lambda *_: None, raising=False)
    solver = solver_of()
    solver.add_callback(parallel.NCCL(solver))
    solver.step(3)
    assert restored == [{"what": "it says"}]


def test_caffe_time_says_which_ways_are_taken(solver_of, tmp_path, monkeypatch, capfd):
    solver_of()
    monkeypatch.setattr(choice, "_measure", lambda ways: list(ways)[-1])
    command = ["time", "-model", str(tmp_path / "net.prototxt"), "-iterations", "1", "-ways"]
    assert main.main(command) == 0
    log = capfd.readouterr().err
    for line in ("b\tforward: inner product", "b\tto weights: product", "ip\tforward: oneDNN"):
        (found,) = [each for each in log.splitlines() if each.endswith(line)]
        assert len(found.expandtabs()) <= 80
    assert main.main([*command, "-fixed_ways"]) == 0
    log = capfd.readouterr().err
    assert "b\tforward: convolution" in log and "ip\tforward: product" in log
    assert not choice.is_measured()
