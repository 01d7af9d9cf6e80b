"""The CPU's own 3 x 3 convolutions, against PyTorch's in double precision."""

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe.kernels import cpu, native
from caffe.proto import caffe_pb2

pytestmark = pytest.mark.skipif(native.library() is None, reason=native.LIBRARY.state())

GEOMETRY = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)
TOLERANCE = 3e-6  # of the largest value
# N, C, H, W, K: whole and broken pieces of a row, images higher than a piece that the cache holds,
# fewer rows than threads, rows and columns of one pixel
SHAPES = [
    (4, 16, 32, 32, 16),
    (3, 16, 5, 31, 32),
    (2, 32, 9, 7, 16),
    (2, 64, 8, 8, 64),
    (1, 64, 3, 40, 16),
    (1, 32, 40, 33, 64),
    (5, 16, 1, 3, 16),
    (2, 16, 4, 1, 32),
    (1, 16, 1, 1, 16),
    (1, 64, 2, 100, 64),
]


def last(*shape, seed):
    values = np.random.RandomState(seed).randn(*shape)
    return torch.tensor(values, dtype=torch.float32).contiguous(memory_format=torch.channels_last)


def assert_close(found, expected):
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.double() - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("n, c, h, w, k", SHAPES)
def test_convolution_and_its_gradients(n, c, h, w, k):
    x, weight, dy = (last(n, c, h, w, seed=0), last(k, c, 3, 3, seed=1), last(n, k, h, w, seed=2))
    assert_close(
        cpu.convolve_3x3(x, weight), torch.convolution(x.double(), weight.double(), None, *GEOMETRY)
    )
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy.double(), x.double(), weight.double(), None, *GEOMETRY, (True, True, False)
    )
    found = cpu.convolve_3x3_backward(dy, x, weight, (True, True))
    assert_close(found[0], dx)
    assert_close(found[1], dweight)
    assert cpu.convolve_3x3_backward(dy, x, weight, (False, False)) == (None, None)


def test_diffs_that_are_not_dense():
    x, weight, dy = last(2, 16, 6, 6, seed=0), last(16, 16, 3, 3, seed=1), last(2, 40, 6, 6, seed=2)
    for found, dense in zip(
        cpu.convolve_3x3_backward(dy[:, 3:19], x, weight, (True, True)),
        cpu.convolve_3x3_backward(dy[:, 3:19].contiguous(), x, weight, (True, True)),
        strict=True,
    ):
        assert torch.equal(found, dense)


def test_what_they_do_not_take():
    x, weight = last(4, 16, 8, 8, seed=0), last(32, 16, 3, 3, seed=1)
    assert cpu.convolves(x, weight)
    assert not cpu.convolves(x.contiguous(), weight)  # channels first
    assert not cpu.convolves(x, weight.contiguous())
    assert not cpu.convolves(x.double(), weight)
    assert not cpu.convolves(x.bfloat16(), weight.bfloat16())
    assert not cpu.convolves(last(0, 16, 8, 8, seed=0), weight)
    assert not cpu.convolves(last(4, 48, 8, 8, seed=0), last(16, 48, 3, 3, seed=1))
    assert not cpu.convolves(x, last(16, 16, 5, 5, seed=1))
    assert not cpu.convolves(last(17, 16, 32, 32, seed=0), last(16, 16, 3, 3, seed=1))  # too large


LAYER = """
layer {{ name: "data" type: "Input" top: "data"
        input_param {{ shape {{ dim: 2 dim: 16 dim: 9 dim: 9 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" propagate_down: true
        convolution_param {{ num_output: 32 kernel_size: 3 {} }} }}
layer {{ name: "loss" type: "Reduction" bottom: "conv" top: "loss" loss_weight: 1
        reduction_param {{ operation: SUMSQ }} }}
"""


@pytest.mark.parametrize(
    "options, taken",
    [
        ("pad: 1 bias_term: false", True),
        ("pad_h: 1 pad_w: 1 bias_term: false", True),
        ("pad: 1", False),
        ("bias_term: false", False),
        ("pad: 1 stride: 2 bias_term: false", False),
        ("pad: 2 dilation: 2 bias_term: false", False),
        ("pad: 1 group: 2 bias_term: false", False),
    ],
)
def test_layers_that_take_them(monkeypatch, options, taken):
    calls = []
    for name in ("convolve_3x3", "convolve_3x3_backward"):
        run = getattr(cpu, name)
        monkeypatch.setattr(
            cpu, name, lambda *arguments, run=run, name=name: calls.append(name) or run(*arguments)
        )

    def run():
        param = text_format.Parse(
            "force_backward: true" + LAYER.format(options), caffe_pb2.NetParameter()
        )
        net, random = caffe.Net(param, caffe.TRAIN), np.random.RandomState(0)
        for blob in (net.blobs["data"], net.params["conv"][0]):
            blob.data[...] = random.randn(*blob.shape)
        net.forward()
        net.backward()
        return [
            net.blobs["conv"].data.copy(),
            net.blobs["data"].diff.copy(),
            net.params["conv"][0].diff.copy(),
        ]

    found = run()
    assert calls == (["convolve_3x3", "convolve_3x3_backward"] if taken else [])
    monkeypatch.setattr(native, "library", lambda: None)
    for ours, plain in zip(found, run(), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * abs(plain).max())
