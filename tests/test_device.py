"""Which GPU does the work, shown by the calls that PyTorch gets, where there need be no GPU."""

import sys
import threading

import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import device
from caffe.command import train as train_command
from caffe.command.flags import use_gpus
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from relaybp import distributed
from relaybp.commands import train as relay_train

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 } }
"""


class Cuda:
    """Four GPUs that only remember what was asked of them; each thread begins with GPU 0."""

    def __init__(self):
        self.calls = []
        self._thread = threading.local()

    def set_device(self, index):
        self._thread.index = index
        self.calls.append(("set_device", index))

    def current_device(self):
        return getattr(self._thread, "index", 0)

    def record(self, name, result=None):
        """A function that remembers on which GPU it was called; it returns `result`."""

        def function(*args, **kwargs):
            self.calls.append((name, self.current_device()))
            return result

        return function


@pytest.fixture
def cuda(monkeypatch):
    for name, value in (
        ("_device", torch.device("cpu")),
        ("ordinal", -1),
        ("_gpu_index", 0),
        ("_generators", {}),
        ("_seed", None),
        ("_solver_count", 1),
        ("_solver_rank", 0),
    ):
        monkeypatch.setattr(device, name, value)
    fake = Cuda()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", fake.set_device)
    monkeypatch.setattr(torch.cuda, "current_device", fake.current_device)
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device: make())
    return fake


def test_the_gpu_in_force_is_the_current_one(cuda):
    caffe.set_device(3)
    assert cuda.calls == []  # the CPU computes: no GPU is touched
    caffe.set_mode_gpu()
    caffe.set_device(2)
    assert cuda.calls == [("set_device", 3), ("set_device", 2)]
    assert (device.current(), device.ordinal) == (torch.device("cuda", 2), 2)


def test_a_gpu_that_refuses_is_not_in_force(cuda, monkeypatch):
    def refuse(index):
        raise RuntimeError("all CUDA-capable devices are busy")

    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(RuntimeError, match="busy"):
        caffe.set_mode_gpu()
    assert (device.current(), device.ordinal) == (torch.device("cpu"), -1)


def test_only_gpus_that_are_there(cuda):
    with pytest.raises(CaffeError, match=r"set_device\(4\): 4 GPUs are visible, 0 to 3"):
        caffe.set_device(4)


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "run",
    [
        lambda net: net._forward(0, 1),
        lambda net: net._backward(1, 0),
        lambda net: net.backward_flows([[(1, 0)]]),
    ],
    ids=["forward", "backward", "flows"],
)
def test_a_pass_in_another_thread_runs_on_the_gpu_in_force(cuda, monkeypatch, run):
    net = caffe.Net(text_format.Parse(NET, caffe_pb2.NetParameter()), caffe.TRAIN)
    for name in ("forward", "backward", "backward_flows"):
        monkeypatch.setattr(net._sweep, name, cuda.record("pass", 0.0))
    caffe.set_device(3)
    caffe.set_mode_gpu()
    in_a_thread(lambda: run(net))
    assert cuda.calls[-1] == ("pass", 3)


def test_memory_for_uploads_is_pinned_on_the_gpu_in_force(cuda, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", cuda.record("pin"))
    device.staged(torch.zeros(1))
    assert cuda.calls == []
    caffe.set_device(3)
    caffe.set_mode_gpu()
    in_a_thread(lambda: device.staged(torch.zeros(1)))
    assert cuda.calls[-1] == ("pin", 3)


def test_the_timer_waits_for_the_gpu_in_force(cuda, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    caffe.set_device(1)
    caffe.set_mode_gpu()
    timer = caffe.Timer()
    timer.start()
    timer.stop()
    assert waited == [torch.device("cuda", 1)] * 2


# ---- random numbers ------------------------------------------------------------------------------


def draw(kind):
    return torch.rand(3, generator=device.generator(kind)).tolist()


def test_each_gpu_has_a_generator_of_its_own(cuda):
    device.set_random_seed(5)
    caffe.set_mode_gpu()
    first = device.generator("cuda")
    caffe.set_device(1)
    assert device.generator("cuda") is not first
    caffe.set_device(0)
    assert device.generator("cuda") is first


def test_a_seed_begins_the_same_generators_again(cuda):
    caffe.set_mode_gpu()
    device.set_random_seed(5)
    made = [device.generator(kind) for kind in ("cpu", "cuda")]
    before = [draw(kind) for kind in ("cpu", "cuda")]
    device.set_random_seed(5)
    assert [device.generator(kind) for kind in ("cpu", "cuda")] == made
    assert [draw(kind) for kind in ("cpu", "cuda")] == before
    device.set_random_seed(6)
    assert device.seed() == 6
    assert [draw(kind) for kind in ("cpu", "cuda")] != before


def test_the_state_of_one_gpu_continues_on_another(cuda):
    caffe.set_mode_gpu()
    device.set_random_seed(5)
    draw("cpu"), draw("cuda")
    state = device.random_state()
    assert sorted(state) == ["cpu", "cuda"]
    expected = draw("cpu"), draw("cuda")
    caffe.set_device(3)
    device.set_random_state(state)
    assert (draw("cpu"), draw("cuda")) == expected


def test_a_gpus_state_is_left_alone_on_a_cpu(cuda):
    device.set_random_state({"cuda": "00"})
    assert device.random_state() == {}


def test_another_generator_goes_on_from_a_state(cuda):
    caffe.set_device(1)
    caffe.set_mode_gpu()
    before = device.generator("cuda")
    state, expected = before.get_state(), draw("cuda")
    device.renew_generator(state)
    assert device.generator("cuda") is not before
    assert draw("cuda") == expected


# ---- launchers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "gpus"), [("0,3", [0, 3]), ("all", [0, 1, 2, 3]), ("2", [2])])
def test_caffe_train_uses_the_first_gpu_itself(cuda, flag, gpus):
    assert use_gpus(flag) == gpus
    assert cuda.calls == [("set_device", gpus[0])]


def test_caffe_train_takes_each_gpu_once(cuda):
    with pytest.raises(CaffeError, match="-gpu 1,1: each process needs a GPU of its own"):
        use_gpus("1,1")


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_of_caffe_train_takes_its_gpu_first(cuda, monkeypatch, rank):
    class Stop(Exception):
        pass

    def nccl(solver, uid):
        cuda.record("group")()
        raise Stop

    monkeypatch.setattr(train_command, "make_solver", cuda.record("solver"))
    monkeypatch.setattr(train_command, "NCCL", nccl)
    with pytest.raises(Stop):
        train_command.join(
            train_command.Job(caffe_pb2.SolverParameter()), [0, 3], rank, "uid", None
        )
    gpu = [0, 3][rank]
    assert cuda.calls == [("set_device", gpu), ("solver", gpu), ("group", gpu)]


@pytest.mark.parametrize(
    ("flag", "rank", "size", "gpu"),
    [("3", 0, 1, 3), ("auto", 0, 1, 0), ("auto", 2, 4, 2), ("1,3", 1, 2, 3)],
)
def test_each_process_of_the_driver_takes_its_gpu_first(
    cuda, monkeypatch, tmp_path, flag, rank, size, gpu
):
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(size))
    monkeypatch.setattr(distributed, "join", cuda.record("group"))
    monkeypatch.setattr(relay_train, "train", cuda.record("train", 0))
    monkeypatch.setattr(sys, "argv", ["train", "--model", "resnet56", "--gpu", flag])
    with pytest.raises(SystemExit):
        relay_train.main()
    assert cuda.calls == [("set_device", gpu), ("group", gpu), ("train", gpu)]


@pytest.mark.parametrize(
    ("flag", "size", "visible", "expected"),
    [
        ("auto", 4, 2, "4 processes on this machine need a GPU each; found 2"),
        ("0", 2, 4, "--gpu 0: 2 processes on this machine need a GPU each; found 1"),
        ("0", 2, 1, "0"),  # where a cluster shows each process one GPU
        ("none", 2, 4, "none"),
        ("auto", 2, 0, "auto"),
    ],
)
def test_processes_do_not_share_a_gpu(monkeypatch, flag, size, visible, expected):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(size))
    if " " in expected:
        with pytest.raises(CaffeError, match=expected):
            relay_train.own_gpu(flag, visible)
    else:
        assert relay_train.own_gpu(flag, visible) == expected


# ---- on a GPU: pytest --gpu N --------------------------------------------------------------------


@pytest.mark.skipif("config.getoption('--gpu') is None", reason="needs --gpu")
def test_no_other_gpu_is_touched():
    others = [index for index in range(torch.cuda.device_count()) if index != device.ordinal]
    before = [torch.cuda.memory_allocated(index) for index in others]
    for index in others:
        torch.cuda.reset_peak_memory_stats(index)
    net = caffe.Net(text_format.Parse(NET, caffe_pb2.NetParameter()), caffe.TRAIN)
    for _ in range(4):  # the third is recorded
        net.forward()
        net.backward()
    assert torch.cuda.current_device() == device.ordinal
    assert net.blobs["fc"].tensor.get_device() == device.ordinal
    assert [torch.cuda.max_memory_allocated(index) for index in others] == before
