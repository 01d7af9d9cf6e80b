"""The kernels, against their definitions in double precision.

Those for GPUs run on one, or on the CPU in Triton's interpreter: TRITON_INTERPRET=1.
"""

import functools
import logging
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe.kernels import cpu, native
from caffe.proto import caffe_pb2
from kernel_cases import INTERPRETED, images

# (N, C, H, W) or (N, C): rows that are no multiple of a group of rows, several threads, one row
SHAPES = [(3, 16, 5, 7), (2, 48, 9, 9), (8, 64, 31, 17), (1, 80, 1, 1), (300, 32), (40, 2048, 2, 2)]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3}  # of the largest value: a last place or two


def assert_close(found, expected, tolerance):
    scale = max(float(expected.abs().max()), 1)
    if INTERPRETED:  # numpy adds up the rows of a tile one after another
        scale *= 20
    assert float((found.double() - expected).abs().max()) <= tolerance * scale


def expected(x, other, scale, bias, eps, rectify, statistics=None):
    """y in double precision, of tensors that autograd follows."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, variance = statistics or (x.mean(axes), x.var(axes, unbiased=False))
    y = (x - mean.view(shape)) / (variance.view(shape) + eps).sqrt()
    y = y * scale.view(shape) + bias.view(shape)
    y = y if other is None else y + other
    return y.relu() if rectify else y


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalization_and_its_gradients(kernels, shape, stored, splits, adds, rectify, dtype):
    x, other, dy, second = (images(shape, dtype, seed) for seed in (0, 1, 2, 4))
    second = second if splits else None
    random = np.random.RandomState(3)
    scale, bias = (torch.tensor(random.randn(shape[1]) + 1, dtype=torch.float32) for _ in range(2))
    mean, variance = torch.zeros(shape[1]), torch.full((shape[1],), 1.5)
    if not stored:
        sums = [torch.zeros(shape[1]), torch.zeros(shape[1]), torch.zeros(1)]
        mean, variance = kernels.measure(x, 0.9, *sums)
    eps = 0.1  # what the one row of (1, 80, 1, 1) is divided by
    y, saved = kernels.normalize(
        x, other if adds else None, scale, bias, eps, mean, variance, rectify
    )

    leaves = [tensor.double().requires_grad_() for tensor in (x, other, scale, bias)]
    truth = expected(
        leaves[0],
        leaves[1] if adds else None,
        *leaves[2:],
        eps,
        rectify,
        (mean.double(), variance.double()) if stored else None,
    )
    assert_close(y, truth.detach(), TOLERANCE[dtype])
    # the ReLU switches where y says, which in bf16 may differ from what truth says
    gate = (y > 0).double() if rectify else torch.ones_like(truth)
    linear = expected(
        leaves[0],
        leaves[1] if adds else None,
        *leaves[2:],
        eps,
        False,
        (mean.double(), variance.double()) if stored else None,
    )
    arrived = dy.double() + second.double() if splits else dy.double()
    dx, _, dscale, dbias = torch.autograd.grad(linear, leaves, arrived * gate, allow_unused=True)

    slack = 1 if dtype != torch.float32 else 5 if kernels is cpu else 50  # GPUs sum in fp32
    (found,) = kernels.normalize_backward(
        [(dy, second, True)],
        x,
        scale,
        mean,
        saved,
        own_statistics=not stored,
        top=y if adds and rectify else None,
        rectified=rectify and not adds,
    )
    below = arrived * gate if splits or adds and rectify else None
    for value, truth in zip(found, (dx, dscale, dbias, below), strict=True):
        assert (value is None) == (truth is None)
        if truth is not None:
            assert_close(value, truth, TOLERANCE[dtype] * slack)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("how", ["top", "rectified", None])
@pytest.mark.parametrize("seconds", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("want_data", [(True, True), (True, False), (False, True), (False, False)])
def test_two_flows_in_one_pass_are_what_they_are_alone(kernels, want_data, seconds, how, dtype):
    shape = (4, 48, 9, 7)
    x, y, *diffs = (images(shape, dtype, seed) for seed in range(6))
    scale, mean = images((4, 48), torch.float32, 6)[:2]
    saved = images((3, 48), torch.float32, 7)
    flows = [(diffs[i], diffs[2 + i] if seconds[i] else None, want_data[i]) for i in (0, 1)]

    def backward(flows):
        return kernels.normalize_backward(
            flows,
            x,
            scale,
            mean,
            saved,
            own_statistics=True,
            top=y if how == "top" else None,
            rectified=how == "rectified",
        )

    for flow, together in zip(flows, backward(flows), strict=True):
        (alone,) = backward([flow])
        assert (together[0] is not None) == flow[2]
        for value, truth in zip(together, alone, strict=True):
            assert (value is None) == (truth is None)
            if truth is not None:
                assert_close(value, truth.double(), TOLERANCE[dtype])


@pytest.mark.parametrize("offset, spread", [(0, 1), (1000, 1), (-3, 1e-3)])
@pytest.mark.parametrize("drift", [0, 50])
def test_statistics_do_not_cancel(kernels, offset, spread, drift):
    random = np.random.RandomState(0)
    values = random.randn(16, 32, 20, 20) * spread + offset
    values += drift * spread * np.arange(16).reshape(-1, 1, 1, 1)  # images of growing brightness
    x = torch.tensor(values, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    means, variances, weight = torch.ones(32), torch.ones(32), torch.ones(1)
    mean, variance = kernels.measure(x, 0.5, means, variances, weight)
    mean, variance, means, variances, weight = (
        value.cpu() for value in (mean, variance, means, variances, weight)
    )
    truth, count = x.double().cpu(), 16 * 20 * 20
    np.testing.assert_allclose(mean, truth.mean((0, 2, 3)), rtol=1e-6, atol=1e-6 * spread)
    np.testing.assert_allclose(variance, truth.var((0, 2, 3), unbiased=False), rtol=2e-5)
    # Caffe's running sums: half of what they were, and this batch's, the variance unbiased
    np.testing.assert_allclose(means, 0.5 + mean)
    np.testing.assert_allclose(variances, 0.5 + variance * count / (count - 1), rtol=1e-6)
    assert weight.item() == 1.5


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("keep_diffs", [False, True])
def test_update(kernels, nesterov, keep_diffs):
    random = np.random.RandomState(0)
    sizes = [1, 15, 16, 17, 4096, 70001]
    weights, gradients, velocities = (
        [torch.tensor(random.randn(size), dtype=torch.float32) for size in sizes] for _ in range(3)
    )
    copies = [torch.zeros(size, dtype=torch.bfloat16) if size % 2 else None for size in sizes]
    truth = []
    for w, g, v in zip(weights, gradients, velocities, strict=True):
        w, g, v = w.double(), g.double(), v.double()
        after = 0.9 * v + 0.1 * (g * 0.5 + 0.01 * w)
        update = 1.9 * after - 0.9 * v if nesterov else after
        truth.append((w - update, after, update))
    if not kernels.can_update(weights, gradients, velocities, 0.9, keep_diffs):
        assert kernels is not cpu and keep_diffs
        pytest.skip("left to PyTorch: the GPU's kernel keeps no diffs")
    versions = [x._version for x in (*weights, *gradients)]
    kernels.update_sgd(
        weights,
        gradients,
        velocities,
        copies,
        rate=0.1,
        momentum=0.9,
        decay=0.01,
        gradient_factor=0.5,
        nesterov=nesterov,
        keep_diffs=keep_diffs,
    )
    kept = [weights, velocities, gradients] if keep_diffs else [weights, velocities]
    for found, wanted in zip(zip(*kept, strict=True), truth, strict=True):
        for value, true_value in zip(found, wanted, strict=False):
            assert_close(value, true_value, 1e-6)
    for weight, copy in zip(weights, copies, strict=True):
        if copy is not None:
            assert torch.equal(copy, weight.bfloat16())
    written = (x._version for x in (*weights, *gradients))
    assert all(now > before for now, before in zip(written, versions, strict=True))


@pytest.mark.parametrize("held", [0.0, 1.0])
def test_an_update_that_is_held_changes_nothing(kernels, held):
    def after(held, spoil=1.0):
        random = np.random.RandomState(0)
        weights, gradients, velocities = (
            [torch.tensor(random.randn(size), dtype=torch.float32) for size in (3, 5000)]
            for _ in range(3)
        )
        gradients[0] *= spoil
        rates = {"rate": 0.1, "momentum": 0.9, "decay": 0.01, "gradient_factor": 0.5}
        if held != "not at all":
            kernels.update_sgd(
                weights,
                gradients,
                velocities,
                [None, None],
                **rates,
                nesterov=False,
                keep_diffs=False,
                held=held if held is None else torch.tensor(held),
            )
        return weights + velocities

    found = after(held, math.nan if held else 1.0)
    for mine, theirs in zip(found, after("not at all" if held else None), strict=True):
        assert torch.equal(mine, theirs)


def test_rounding_to_bf16_is_that_of_pytorch(kernels):
    """Ties, the largest numbers, infinities, NaN: every upper half with three lower halves."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    bits = np.concatenate([upper | lower for lower in (0, 0x7FFF, 0x8000, 0x8001)])
    values = torch.tensor(bits.view(np.float32))
    zero, copy = torch.zeros_like(values), torch.empty_like(values, dtype=torch.bfloat16)
    kernels.update_sgd(
        [values],
        [zero.clone()],
        [zero.clone()],
        [copy],
        rate=0.0,
        momentum=0.9,
        decay=0.0,
        gradient_factor=0.0,
        nesterov=False,
        keep_diffs=False,
    )
    wanted, tiny = values.bfloat16(), values.abs() < torch.finfo(torch.float32).tiny
    is_number = ~values.isnan() & ~tiny
    assert torch.equal(copy[is_number], wanted[is_number])
    assert copy[values.isnan()].isnan().all()
    assert ((copy[tiny] == 0) | (copy[tiny] == wanted[tiny])).all()  # a processor may make it zero


def test_what_the_kernels_do_not_take(kernels):
    images_last = torch.zeros(2, 32, 4, 4).contiguous(memory_format=torch.channels_last)
    assert kernels.fits(images_last) and kernels.fits(torch.zeros(4, 16))
    assert not kernels.fits(torch.zeros(2, 32, 4, 4))  # channels first
    assert kernels.fits(torch.zeros(4, 20)) == (kernels is not cpu)  # not a multiple of 16
    assert not kernels.fits(torch.zeros(4, 16).double())
    assert not kernels.fits(torch.zeros(0, 16))
    assert not kernels.fits(images_last, images_last.bfloat16())
    weight = [torch.zeros(8, 4, 3, 3)]
    assert not kernels.can_update(
        weight, [weight[0].contiguous(memory_format=torch.channels_last)], weight, 0.9, False
    )


class OnGpu:
    """All that is asked of a tensor before there are kernels for it."""

    is_cuda = True


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        subprocess.CalledProcessError(1, ["gcc", "main.c"]),
        FileNotFoundError(2, "No such file or directory", "cc"),
    ],
    ids=["no compiler", "no headers", "a wrong CC"],
)
def test_pytorch_does_the_work_where_triton_cannot_compile(monkeypatch, caplog, error):
    """Found out once, said in one line."""
    tries = []

    def try_out():
        tries.append(1)
        raise error

    module = types.ModuleType("caffe.kernels.gpu")
    module.try_out = try_out
    monkeypatch.setitem(sys.modules, "caffe.kernels.gpu", module)
    monkeypatch.setattr(caffe.kernels, "gpu", module, raising=False)
    monkeypatch.setattr(caffe.kernels, "_gpu", functools.cache(caffe.kernels._gpu.__wrapped__))
    caplog.set_level(logging.INFO, "caffe")
    assert caffe.kernels.taking(OnGpu()) is None
    assert caffe.kernels.pooling(OnGpu(), (3, 3)) is None
    assert caffe.kernels.updating([OnGpu()], [], [], 0.9, False) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"GPU kernels: none ({type(error).__name__}: ")
    assert "PyTorch does their work" in line and "\n" not in line
    assert tries == [1]


def test_triton_is_tried_with_a_launch(monkeypatch):
    if not (torch.cuda.is_available() or INTERPRETED):
        pytest.skip("needs a GPU, or TRITON_INTERPRET=1")
    pytest.importorskip("triton")
    from caffe.kernels import gpu

    made, zeros = [], torch.zeros

    def remember(*shape, device):
        made.append(zeros(*shape, device="cpu" if INTERPRETED else device))
        return made[0]

    monkeypatch.setattr(torch, "zeros", remember)
    gpu.try_out()
    assert made[0].tolist() == [1]


BRANCHES = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 16 dim: 5 dim: 5 } } }
layer { name: "bn1" type: "BatchNorm" bottom: "data" top: "one" }
layer { name: "scale1" type: "Scale" bottom: "one" top: "one" scale_param { bias_term: true } }
layer { name: "bn2" type: "BatchNorm" bottom: "data" top: "two" }
layer { name: "scale2" type: "Scale" bottom: "two" top: "two" scale_param { bias_term: true } }
layer { name: "relu2" type: "ReLU" bottom: "two" top: "two" }
layer { name: "both" type: "Concat" bottom: "one" bottom: "two" top: "both" }
layer { name: "loss" type: "Reduction" bottom: "both" top: "loss" loss_weight: 1
        reduction_param { operation: SUMSQ } }
"""


def test_diffs_that_are_pieces_of_a_larger_one(monkeypatch):
    """As below a Concat, whose diff is passed down in pieces that are not dense."""

    def gradients():
        net = caffe.Net(text_format.Parse(BRANCHES, caffe_pb2.NetParameter()), caffe.TRAIN)
        random = np.random.RandomState(0)
        net.blobs["data"].data[...] = random.randn(2, 16, 5, 5)
        for blobs in (net.params["scale1"], net.params["scale2"]):
            for blob in blobs:
                blob.data[...] = random.rand(16) + 0.5
        net.forward()
        net.backward()
        return [blob.diff.copy() for name in ("scale1", "scale2") for blob in net.params[name]]

    found = gradients()
    monkeypatch.setattr(native, "library", lambda: None)
    for ours, plain in zip(found, gradients(), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-4)


POOLS = pytest.mark.parametrize(
    "shape, kernel, stride, pad, ceil",
    [
        ((2, 16, 9, 12), (3, 3), (2, 2), (0, 0), True),
        ((1, 48, 7, 7), (3, 2), (1, 2), (1, 1), False),
        ((3, 32, 8, 8), (2, 2), (3, 3), (0, 0), False),
        ((2, 64, 36, 6), (3, 3), (2, 2), (1, 1), True),
        ((1, 3, 7, 9), (3, 2), (1, 2), (1, 1), False),
    ],
)


def skip_unless_pools(kernels, shape):
    takes = kernels.pools(images(shape, torch.float32, 0), (3, 3))
    assert takes or (kernels is cpu and shape[1] % 16)
    if not takes:
        pytest.skip("left to PyTorch: not a multiple of 16 channels")


@POOLS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_average_pool(kernels, shape, kernel, stride, pad, ceil, dtype):
    skip_unless_pools(kernels, shape)
    x = images(shape, dtype, 0).double().cpu().requires_grad_()
    y = torch.nn.functional.avg_pool2d(x, kernel, stride, pad, ceil)
    dy = images(tuple(y.shape), dtype, 1)
    (expected,) = torch.autograd.grad(y, x, dy.double().cpu())
    found = kernels.average_pool(images(shape, dtype, 0), kernel, stride, pad, tuple(y.shape[2:]))
    assert_close(found.cpu(), y.detach(), TOLERANCE[dtype])
    found = kernels.average_pool_backward(dy, kernel, stride, pad, shape[2:])
    assert_close(found.cpu(), expected, TOLERANCE[dtype])


@POOLS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_max_pool(kernels, shape, kernel, stride, pad, ceil, dtype):
    skip_unless_pools(kernels, shape)
    x = images(shape, dtype, 0).round()  # with ties, of which the first counts
    y, places = torch.nn.functional.max_pool2d(x.double().cpu(), kernel, stride, pad, 1, ceil, True)
    found, own_places = kernels.max_pool(x, kernel, stride, pad, tuple(y.shape[2:]))
    assert torch.equal(found.double().cpu(), y)
    dy = images(tuple(y.shape), dtype, 1)
    dx = (
        torch.zeros(x.shape, dtype=torch.float64, device="cpu")
        .flatten(2)
        .scatter_add_(2, places.flatten(2), dy.double().cpu().flatten(2))
        .view(x.shape)
    )
    assert_close(
        kernels.max_pool_backward(dy, own_places, kernel, stride, pad, shape[2:]).cpu(),
        dx,
        TOLERANCE[dtype],
    )


@POOLS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_max_pool_takes_numbers_only(kernels, shape, kernel, stride, pad, ceil, dtype):
    """Against each window's largest number, or the lowest of the dtype where there is none."""
    skip_unless_pools(kernels, shape)
    x = images(shape, dtype, 0)
    odd = torch.tensor(np.random.RandomState(2).rand(*shape))
    x[odd < 0.6], x[odd < 0.1], x[odd < 0.02] = torch.nan, -torch.inf, torch.inf
    x[0, 0], x[0, 1] = torch.nan, -torch.inf
    lowest = torch.finfo(dtype).min
    numbers = torch.where(x > lowest, x, lowest)
    y, places = torch.nn.functional.max_pool2d(
        numbers.double().cpu(), kernel, stride, pad, 1, ceil, True
    )
    found, own_places = kernels.max_pool(x, kernel, stride, pad, tuple(y.shape[2:]))
    assert torch.equal(found.double().cpu(), y)
    assert torch.equal(own_places.cpu() < 0, y == lowest)
    assert (y == lowest).any(), "no window without a number"
    dx = kernels.max_pool_backward(
        torch.ones_like(found), own_places, kernel, stride, pad, shape[2:]
    )
    expected = (
        torch.zeros(x.shape, dtype=torch.float64, device="cpu")
        .flatten(2)
        .scatter_add_(2, places.flatten(2), (y > lowest).double().flatten(2))
        .view(x.shape)
    )
    assert torch.equal(dx.double().cpu(), expected)
