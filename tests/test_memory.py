"""Memory that is to stay: kernels/memory."""

import random
import threading

import torch

from caffe.kernels import memory


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


def test_a_copy_is_c_ordered_and_dense():
    for dtype in (torch.float32, torch.bfloat16):
        for tensor in (torch.arange(6.0).view(2, 3).T, torch.zeros(0, 4), torch.tensor(3.0)):
            tensor = tensor.to(dtype)
            copy = memory.kept(tensor)
            assert copy.is_contiguous() and copy.dtype == dtype and torch.equal(copy, tensor)
            assert not copy.numel() or copy.data_ptr() != tensor.data_ptr()
