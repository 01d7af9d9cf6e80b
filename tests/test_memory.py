"""Memory that is to stay: kernels/memory."""

import errno
import random
import threading

import pytest
import torch

import caffe
import deploy_nets
from caffe.kernels import choice, memory, steps
from caffe_plain.errors import OutOfMemoryError


def test_tensors_have_memory_of_their_own():
    draw, held = random.Random(1), []

    def take(numbers):
        for number in numbers:
            count = draw.choice([1, 7, 1000, 300_000, 3_000_000])
            held.append((number, memory.lasting((count,), torch.float32).fill_(number)))

    threads = [threading.Thread(target=take, args=(range(k, 60, 3),)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 60
    for number, tensor in held:
        assert (tensor == number).all()
        assert tensor.data_ptr() % 64 == 0


def test_what_was_compared_is_settled_without_a_second_copy_if_it_is_large():
    for shape in ((2, 3), (0, 4), (), (5, 1 << 20)):
        for dtype in (torch.float32, torch.bfloat16):
            tensor = memory.new(shape, dtype).fill_(3)
            settled = memory.settled(tensor)
            assert settled.is_contiguous() and settled.dtype == dtype
            assert torch.equal(settled, tensor)
            assert (settled is tensor) == (len(shape) == 2 and shape[1] > 4)


def test_a_layer_whose_weights_find_no_memory_is_named(monkeypatch):
    if not steps.takes(torch.float32):
        pytest.skip("no compiler")

    def full(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    def own(operation, details, ways, *_):
        return next((name for name in ways if name.startswith("own")), next(iter(ways)))

    monkeypatch.setattr(choice, "fastest", own)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    layer = deploy_nets.conv("large", "data", 512, 3)  # of 4.7 MB: pages of its own
    net = caffe.Net(deploy_nets.message(deploy_nets.net("net", (1, 256, 3, 3), layer)), caffe.TEST)
    net.keep_blobs = False
    monkeypatch.setattr(memory.mmap, "mmap", full)
    with pytest.raises(OutOfMemoryError, match=r"layer 'large' .* asked for 6\.0 MiB"):
        net.forward()
