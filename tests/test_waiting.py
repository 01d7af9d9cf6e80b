"""When the program waits for a GPU: by numbers that take their time, and by recorded calls."""

import gc
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import caffe
import schedule_cases
import solver_cases
from caffe import arriving, device
from caffe.proto import caffe_pb2
from caffe.synced_memory import SyncedMemory
from caffe_plain.errors import LostProcessError
from caffe_plain.late import Late
from nets import AUXILIARY
from relaybp import relay_file
from relaybp.engines import native
from relaybp.layers import upload
from relaybp.layers.scene_pool import Pool
from relaybp.trainer import Trainer
from scene_cases import forwards, layer, make_net, raw_lmdb

# ---- numbers that take their time ----------------------------------------------------------------


class Slow(arriving.Arriving):
    """A number of a GPU that is never ready before somebody waits for it."""

    is_here = False

    def __init__(self, calls, value, divisor):
        self.calls, self.value, self.number = calls, float(value) / divisor, len(calls)
        self.tensor = torch.as_tensor(value)
        calls.append(f"begin {self.number}")

    def __float__(self):
        self.calls.append(f"wait {self.number}")
        return self.value


@pytest.fixture
def slow(monkeypatch):
    """The calls that begin and wait for numbers, which come as from a GPU."""
    calls = []

    def number(value, divisor=1):
        return Slow(calls, value, divisor)

    monkeypatch.setattr("caffe.solver.number", number)
    monkeypatch.setattr(native, "number", number)
    return calls


def test_late_reports_keep_their_order_and_are_one_late():
    said, calls, late = [], [], Late()
    for value in (1, 2, 3):
        late.add([Slow(calls, value, 1), Slow(calls, -value, 1)], lambda *pair: said.append(pair))
        assert said == [(k, -k) for k in range(1, value)]
    late.finish()
    assert said == [(1, -1), (2, -2), (3, -3)]
    late.add([4.0], said.append)
    assert said[-1] == 4  # nothing to wait for


def test_late_reports_what_is_here_at_once():
    late, said = Late(), []
    late.add([5.0, 6.0], lambda *pair: said.append(pair))
    late.add([], lambda: said.append("nothing to wait for"))
    assert said == [(5, 6), "nothing to wait for"]


def log_of(caplog, solver, *steps):
    """The lines of a solver, without times and folders."""
    caplog.clear()
    caplog.set_level(logging.INFO, "caffe")
    for count in steps:
        solver.step(count)
    return [re.sub(r" \(.* iters\)|/\S*/", "", r.getMessage()) for r in caplog.records]


def lateness(calls):
    """For each number that was begun, how many newer ones had been begun when it was waited for."""
    begun, late = [], {}
    for call in calls:
        what, number = call.split()
        if what == "begin":
            begun.append(number)
        else:
            late.setdefault(begun.index(number), len(begun) - begun.index(number) - 1)
    return [late.get(number) for number in range(len(begun))]


@pytest.mark.parametrize("average", [1, 3])
def test_only_iterations_that_are_shown_wait_for_their_loss(tmp_path, caplog, slow, average):
    settings = solver_cases.CASES["SGD_fixed"] + f" display: 4 average_loss: {average}"
    found = log_of(caplog, solver_cases.make_solver(settings, str(tmp_path)), 10)
    assert lateness(slow) == [0, 1, 1, 1, 0, 1, 1, 1, 0, None]  # nobody has asked for the last
    assert sum(line.startswith("Iteration") for line in found) == 6


@pytest.mark.parametrize("case", ["SGD_clip", "Adam_all", "Nesterov_multistep", "SGD_iter_size"])
@pytest.mark.parametrize("steps", [(9,), (4, 5), (1,) * 9])
def test_the_lines_of_a_solver_are_the_same(tmp_path, caplog, request, case, steps):
    settings = solver_cases.CASES[case] + " display: 2 average_loss: 3 snapshot: 4"
    expected = log_of(caplog, solver_cases.make_solver(settings, str(tmp_path)), *steps)
    request.getfixturevalue("slow")
    found = log_of(caplog, solver_cases.make_solver(settings, str(tmp_path)), *steps)
    clipping = [[x for x in log if x.startswith("Gradient clip")] for log in (found, expected)]
    others = [[x for x in log if not x.startswith("Gradient clip")] for log in (found, expected)]
    assert clipping[0] == clipping[1] and others[0] == others[1]
    assert len(clipping[0]) == (9 if "clip" in case or "all" in case else 0)


def test_a_snapshot_comes_after_all_lines_about_what_it_holds(tmp_path, caplog, slow):
    settings = solver_cases.CASES["SGD_clip"] + " snapshot: 4"
    found = log_of(caplog, solver_cases.make_solver(settings, str(tmp_path)), 9)
    first, second, *_ = [i for i, line in enumerate(found) if line.startswith("Snapshotting to")]
    assert sum(line.startswith("Gradient clip") for line in found[:first]) == 4
    assert sum(line.startswith("Gradient clip") for line in found[:second]) == 8


def test_an_error_in_an_iteration_leaves_no_line_out(tmp_path, caplog, slow):
    solver = solver_cases.make_solver(solver_cases.CASES["SGD_clip"], str(tmp_path))
    solver.add_callback(lambda: 1 / (3 - solver.iter), lambda: None)
    with pytest.raises(ZeroDivisionError):
        log_of(caplog, solver, 9)
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("Gradient clip") for line in lines) == 3


# ---- the driver ----------------------------------------------------------------------------------

SCHEDULES = ["schedule: JOINT", "schedule: PAIR_WISE", "schedule: MULTI_WAY"]


class Said:
    """A report that remembers what it was told, and when snapshots and tests came."""

    def __init__(self):
        self.calls = []

    def iteration(self, done, images, losses, rate):
        self.calls.append((done, losses, rate))

    def say(self, text):
        self.calls.append(text.split(":")[0])

    def test(self, iteration, means):
        self.calls.append(("test", iteration))

    def start(self, iteration):
        pass

    def pause(self):
        pass


def trainer(folder, relay, **settings):
    relay = relay_file.parse_relay(relay)
    return Trainer(schedule_cases.attach(caffe, str(folder), relay, AUXILIARY, **settings), Said())


@pytest.fixture
def folders(tmp_path):
    for name in ("plain", "slow"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_driver_reports_every_iteration_once_and_in_order(folders, request, schedule):
    def told(folder):
        made = trainer(folders / folder, schedule, max_iter=7, snapshot=3)
        made.train()
        return made.report.calls

    expected = told("plain")
    slow = request.getfixturevalue("slow")
    assert told("slow") == expected
    numbers = [call[0] for call in expected if isinstance(call, tuple)]
    assert numbers == [*range(1, 8)]
    assert [call for call in expected if isinstance(call, str)] == ["Snapshot"] * 3
    assert "wait" in " ".join(slow)


def test_the_driver_waits_for_an_iteration_when_the_next_has_been_begun(folders, slow):
    made = trainer(folders / "slow", "schedule: JOINT", max_iter=6)
    for iteration in range(1, 7):
        made.iterate()
        told = [done for done, *_ in made.report.calls]
        assert told == [*range(1, iteration)]
    made.late.finish()
    assert [done for done, *_ in made.report.calls] == [*range(1, 7)]
    # each iteration's loss, and whether all was finite, are waited for after those of the next one,
    # its three outputs after the next one's outputs
    assert lateness(slow) == [5, 5, 7, 6, 5] * 5 + [None, None, 2, 1, 0]


@pytest.mark.parametrize("stopped_by", ["signal", "lost process", "error"])
def test_nothing_is_left_unreported(folders, slow, monkeypatch, stopped_by):
    made = trainer(folders / "slow", "schedule: JOINT", max_iter=9)

    def requested(signals):
        if made.relay.iter < 4 or stopped_by == "error" and made.relay.iter < 5:
            return None
        if stopped_by == "signal":
            return "stop"
        raise LostProcessError("gone") if stopped_by == "lost process" else ValueError

    monkeypatch.setattr(made.group, "requested", requested)
    if stopped_by == "signal":
        made.train()
    else:
        with pytest.raises((LostProcessError, ValueError)):
            made.train()
    done = 5 if stopped_by == "error" else 4
    told = [call if isinstance(call, str) else call[0] for call in made.report.calls]
    said = ["Interrupted at iteration 4"] if stopped_by == "signal" else []
    assert told == [*range(1, done + 1), *said, "Snapshot"]


# ---- recorded calls ------------------------------------------------------------------------------


class Event:
    """A CUDA event, by its calls."""

    def __init__(self, calls):
        self.calls, self.number = calls, sum(call[0] == "record" for call in calls)
        calls.append(("record", self.number))
        self.has_passed = False

    def query(self):
        return self.has_passed

    def synchronize(self):
        self.calls.append(("wait", self.number))
        self.has_passed = True


class OnGpu:
    """A tensor of a GPU, by what is asked of it."""

    is_cuda = True

    def __init__(self, calls, value):
        self.calls, self.value = calls, value

    def to(self, place, non_blocking):
        assert place == "cpu" and non_blocking
        self.calls.append(("copy",))
        return torch.tensor(self.value)


def test_a_number_arrives_by_an_event_of_its_own(monkeypatch):
    calls = []
    monkeypatch.setattr(device, "mark", lambda: Event(calls))
    one, two = (arriving.Arriving(OnGpu(calls, value), 4) for value in (1.0, 2.0))
    assert calls == [("copy",), ("record", 0), ("copy",), ("record", 1)]
    assert not one.is_here and not two.is_here
    assert float(one) == 0.25 and calls[-1] == ("wait", 0)
    assert one.is_here and not two.is_here
    assert arriving.Arriving(torch.tensor([3, 4])).tolist() == [3, 4]
    assert len(calls) == 5


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """The calls of a net with SceneData whose batches go up as to a GPU."""
    calls, kept = [], {}

    def upload_of(tensor):
        calls.append(("copy", kept.get(tensor.data_ptr(), tuple(tensor.shape))))
        return tensor.clone()

    def staged(tensor):
        calls.append(("stage", tuple(tensor.shape)))
        return tensor

    submit = Pool.submit

    def filled(pool, slot):
        calls.append(("fill", slot))
        kept[pool.slots.pixels[slot].ctypes.data] = slot
        submit(pool, slot)

    monkeypatch.setattr(device, "upload", upload_of)
    monkeypatch.setattr(device, "staged", staged)
    monkeypatch.setattr(device, "mark", lambda: Event(calls))
    monkeypatch.setattr(upload, "host", lambda: None)
    monkeypatch.setattr(Pool, "submit", filled)
    return calls


def test_a_slot_is_filled_again_only_when_its_event_has_passed(tmp_path, uploads, monkeypatch):
    raw_lmdb(caffe_pb2, tmp_path / "raw")
    text = layer(tmp_path / "raw", "workers: 1 batch_size: 4 ahead: 2 shuffle: true seed: 3")
    net = make_net(caffe, tmp_path, text)
    for _ in range(9):
        net._forward(0, 0)
    slots = [call[1] for call in uploads if call[0] == "copy" and isinstance(call[1], int)]
    assert len(slots) == 9 and set(slots) == set(range(4))
    for number, slot in enumerate(slots):
        copied = [i for i, call in enumerate(uploads) if call == ("copy", slot)]
        at = copied[slots[:number].count(slot)]
        recorded = uploads.index(("record", number))
        assert at < recorded
        again = [i for i, call in enumerate(uploads) if call == ("fill", slot) and i > at]
        if again:
            assert recorded < uploads.index(("wait", number)) < again[0]
    assert sum(call[0] == "wait" for call in uploads) == 7  # the last two may still be fetched


@pytest.mark.unlooked
def test_labels_go_up_staged_and_nobody_reads_them(tmp_path, uploads, monkeypatch):
    raw_lmdb(caffe_pb2, tmp_path / "raw")
    net = make_net(caffe, tmp_path, layer(tmp_path / "raw", "workers: 1 batch_size: 4"))
    read = []
    monkeypatch.setattr(SyncedMemory, "array", lambda *args: read.append(args))
    for _ in range(3):
        net._forward(0, 0)
    assert not read
    first = uploads.index(("stage", (4,)))
    assert uploads[first + 1] == ("copy", (4,))
    assert sum(call == ("stage", (4,)) for call in uploads) == 3


def test_the_batches_are_the_same(tmp_path, request):
    raw_lmdb(caffe_pb2, tmp_path / "raw")
    text = layer(tmp_path / "raw", "workers: 1 batch_size: 4 ahead: 1 class_aware: true seed: 3")
    expected = forwards(make_net(caffe, tmp_path, text), 9)
    request.getfixturevalue("uploads")
    for mine, theirs in zip(forwards(make_net(caffe, tmp_path, text), 9), expected, strict=True):
        for name, values in theirs.items():
            np.testing.assert_array_equal(mine[name], values)


# ---- locked memory -------------------------------------------------------------------------------


class Runtime:
    """CUDA's runtime, which answers with given codes."""

    def __init__(self, register=0, unregister=0):
        self.codes, self.calls = (register, unregister), []

    def cudaHostRegister(self, address, size, flags):
        self.calls.append(("register", address, size, flags))
        return self.codes[0]

    def cudaHostUnregister(self, address):
        self.calls.append(("unregister", address))
        return self.codes[1]

    def cudaGetErrorString(self, code):
        return {712: "already mapped", 713: "not mapped"}[code]


class FakePool:
    where = "SceneData (x)"

    def __init__(self):
        self.slots = SimpleNamespace(pixels=np.zeros((2, 4096), np.uint8))


@pytest.fixture
def with_gpu(monkeypatch):
    """Makes a GPU be in force, with a Runtime; returns what is called on it."""

    def make(**codes):
        runtime = Runtime(**codes)
        monkeypatch.setattr(device, "current", lambda: torch.device("cuda", 0))
        monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: runtime.calls.append(("wait",)))
        monkeypatch.setattr(upload, "_forget_error", lambda: runtime.calls.append(("forget",)))
        return runtime.calls

    return make


def test_the_memory_of_batches_is_locked_while_they_last(with_gpu, capsys):
    calls, pool = with_gpu(), FakePool()
    pixels = pool.slots.pixels
    address, size = pixels.ctypes.data, pixels.nbytes
    upload.pin(pool)
    assert calls == [("register", address, size, 0)]
    del pool
    gc.collect()
    assert calls[1:] == [("wait",), ("unregister", address)]
    assert not capsys.readouterr().err


def test_memory_that_cuda_does_not_lock_is_said_in_one_line(with_gpu, capsys):
    calls, pool = with_gpu(register=712), FakePool()
    upload.pin(pool)
    del pool
    gc.collect()
    assert [call[0] for call in calls] == ["register", "forget"]  # it is not ours to unlock
    assert capsys.readouterr().err == (
        "SceneData (x): cudaHostRegister: already mapped (error 712): batches take one copy more "
        "on their way\n"
    )


def test_memory_that_cuda_does_not_unlock_is_said_in_one_line(with_gpu, capsys):
    calls, pool = with_gpu(unregister=713), FakePool()
    upload.pin(pool)
    del pool
    gc.collect()
    assert [call[0] for call in calls] == ["register", "wait", "unregister", "forget"]
    assert capsys.readouterr().err.startswith("SceneData (x): cudaHostUnregister: not mapped")


def test_on_the_cpu_nothing_is_locked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "cudart", lambda: pytest.fail("asked CUDA"))
    upload.pin(FakePool())
