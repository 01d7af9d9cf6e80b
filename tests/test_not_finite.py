"""NaN and infinity in each input of each kernel: what the same formulas in PyTorch make of them.

A run that diverges must look so. Max pooling, where Caffe passes over NaN, has tests of its own.
"""

import math

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import device
from caffe.kernels import cpu, native, winograd
from caffe.proto import caffe_pb2

# what numpy says in Triton's interpreter
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

VALUES = {"NaN": math.nan, "+inf": math.inf, "-inf": -math.inf}
SHAPE = (3, 32, 10, 7)  # rows that are no multiple of a tile's
EPS = 0.1
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
WAYS = pytest.mark.parametrize(
    "adds, rectify", [(False, False), (False, True), (True, False), (True, True)]
)
OWN = pytest.mark.parametrize("own_statistics", [True, False], ids=["own", "stored"])


def images(dtype, seed):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    values = torch.randn(SHAPE, generator=generator, device="cpu")
    return values.to(torch.zeros(()).device, dtype).contiguous(memory_format=torch.channels_last)


def channels(seed):
    """A positive number for each channel."""
    return images(torch.float32, seed)[0, :, 0, 0].abs() + 0.5


def inputs(dtype):
    tensors = {
        name: images(dtype, seed) for seed, name in enumerate(("x", "other", "dy", "second"))
    }
    vectors = ("scale", "bias", "mean", "variance")
    return tensors | {name: channels(seed) for seed, name in enumerate(vectors, 10)}


def spoiled(tensors, names):
    """`tensors` with each of VALUES in each of the `names` at one place: (what, tensors)."""
    for name in names:
        places = [(1, 3, 2, 2), (0, 3, 0, 0)] if tensors[name].dim() == 4 else [(3,)]
        for place in places:  # the first row is what a variance is measured from
            for what, value in VALUES.items():
                changed = tensors[name].clone()
                changed[place] = value
                yield f"{what} in {name} {place}", {**tensors, name: changed}


def assert_same(found, expected, what):
    """Equal, NaN to NaN and infinity to infinity; finite values roughly (see test_kernels)."""
    torch.testing.assert_close(
        found.float(),
        expected.float(),
        rtol=0.05,
        atol=0.3,  # Triton's interpreter cuts where it should round to bf16
        equal_nan=True,
        msg=lambda message: f"{what}: {message}",
    )


def per_channel(values):
    return values.view(1, -1, 1, 1)


def normalized(t, adds, rectify):
    """y, saved and the value below the ReLU: the kernels' formulas, in PyTorch."""
    inverse_std = 1 / (t["variance"] + EPS).sqrt()
    factor = inverse_std * t["scale"]
    shift = t["bias"] - t["mean"] * factor
    value = t["x"].float() * per_channel(factor) + per_channel(shift)
    if adds:
        value = value + t["other"].float()
    y = value.relu() if rectify else value
    return y.to(t["x"].dtype), torch.stack([inverse_std, factor, shift])


@PRECISIONS
@WAYS
def test_normalize(kernels, dtype, adds, rectify):
    names = ["x", "scale", "bias", "mean", "variance"] + ["other"] * adds
    for what, t in spoiled(inputs(dtype), names):
        found = kernels.normalize(
            t["x"],
            t["other"] if adds else None,
            *(t[name] for name in ("scale", "bias")),
            EPS,
            *(t[name] for name in ("mean", "variance")),
            rectify,
        )
        for value, truth in zip(found, normalized(t, adds, rectify), strict=True):
            assert_same(value, truth, what)


@PRECISIONS
def test_measure(kernels, dtype):
    vectors = {name: channels(seed) for seed, name in enumerate(("means", "variances"), 20)}
    tensors = {"x": images(dtype, 0), **vectors}
    for what, t in spoiled(tensors, tensors):
        x, sums = t["x"].float(), [t["means"].clone(), t["variances"].clone()]
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        count = x.numel() // x.shape[1]
        found = kernels.measure(t["x"], 0.5, *sums, torch.ones(1))
        truth = (
            mean,
            variance,
            0.5 * t["means"] + mean,
            0.5 * t["variances"] + variance * count / (count - 1),
        )
        for value, true_value in zip((*found, *sums), truth, strict=True):
            assert_same(value, true_value, what)


def gradients(t, saved, top, *, splits, rectified, own_statistics):
    """(dx, dscale, dbias, below): the kernels' formulas, in PyTorch."""
    inverse_std, factor, shift = saved
    x, diff = t["x"].float(), t["dy"].float()
    if splits:
        diff = diff + t["second"].float()
    if top is not None:
        diff = torch.ops.aten.threshold_backward(diff, top.float(), 0)
    if rectified:
        value = x * per_channel(factor) + per_channel(shift)
        diff = torch.ops.aten.threshold_backward(diff, value, 0)
    below = diff.to(t["x"].dtype) if splits or top is not None else None
    diff = diff if below is None else below.float()
    centred = x - per_channel(t["mean"])
    dbias, products = diff.sum((0, 2, 3)), (diff * centred).sum((0, 2, 3))
    dscale, slope = products * inverse_std, t["scale"] * inverse_std
    dx = per_channel(slope) * diff
    if own_statistics:
        count = x.numel() // x.shape[1]
        dx = dx - per_channel(slope * inverse_std * dscale / count) * centred
        dx = dx - per_channel(slope * dbias / count)
    return dx.to(t["x"].dtype), dscale, dbias, below


@PRECISIONS
@WAYS
@OWN
@pytest.mark.parametrize("splits", [True, False])
def test_normalize_backward(kernels, dtype, adds, rectify, own_statistics, splits):
    tensors = inputs(dtype)
    tensors["top"], _ = normalized(tensors, adds, rectify)
    names = ["x", "dy", "scale", "mean", "variance"] + ["second"] * splits + ["top"] * adds
    for what, t in spoiled(tensors, names):
        _, saved = normalized(t, adds, rectify)
        rule = {
            "top": t["top"] if adds and rectify else None,
            "rectified": rectify and not adds,
            "own_statistics": own_statistics,
        }
        second = t["second"] if splits else None
        (found,) = kernels.normalize_backward(
            [(t["dy"], second, True)], t["x"], t["scale"], t["mean"], saved, **rule
        )
        truth = gradients(t, saved, splits=splits, **rule)
        for value, true_value in zip(found, truth, strict=True):
            assert (value is None) == (true_value is None)
            if value is not None:
                assert_same(value, true_value, what)


@PRECISIONS
def test_average_pooling(kernels, dtype):
    rule = ((3, 3), (2, 2), (1, 1))
    for what, t in spoiled({"x": images(dtype, 0)}, ["x"]):
        x = t["x"].float().requires_grad_()
        y = torch.nn.functional.avg_pool2d(x, *rule)
        assert_same(kernels.average_pool(t["x"], *rule, y.shape[2:]), y.detach(), what)
    for what, t in spoiled({"dy": images(dtype, 1)[:, :, :5, :4]}, ["dy"]):
        dy = t["dy"].contiguous(memory_format=torch.channels_last)
        (dx,) = torch.autograd.grad(y, x, dy.float(), retain_graph=True)
        assert_same(kernels.average_pool_backward(dy, *rule, SHAPE[2:]), dx, what)


@pytest.mark.parametrize("decay", [0.01, 0.0])
def test_update(kernels, decay):
    tensors = {name: images(torch.float32, seed) for seed, name in enumerate("wgv")}
    for what, t in spoiled(tensors, tensors):
        gradient = 0.5 * t["g"] + (decay * t["w"] if decay else 0)
        velocity = 0.9 * t["v"] + 0.1 * gradient
        truth = (t["w"] - velocity, velocity)
        w, g, v = (t[name].clone(memory_format=torch.preserve_format) for name in "wgv")
        rates = {"rate": 0.1, "momentum": 0.9, "decay": decay, "gradient_factor": 0.5}
        kernels.update_sgd([w], [g], [v], [None], **rates, nesterov=False, keep_diffs=False)
        for value, true_value in zip((w, v), truth, strict=True):
            assert_same(value, true_value, what)


def places():
    """For each place of a 3 x 3 kernel: the place, and the slices of a padded 9 x 8 image."""
    return [((i, j), (..., slice(i, i + 9), slice(j, j + 8))) for i in range(3) for j in range(3)]


def convolved(x, weight):
    """Twice x (N, C, 9, 8) convolved: without what lies outside, and with zeros around x."""
    (without, zeros), inside = torch.zeros(2, len(x), len(weight), 9, 8), around(torch.ones(9, 8))
    for (i, j), part in places():
        products = torch.einsum("nchw,kc->nkhw", around(x)[part], weight[:, :, i, j])
        without += torch.where(inside[part] > 0, products, 0)
        zeros += products
    return without, zeros


def weight_diffs(dy, x):
    """The same for the diff of the weights."""
    (without, zeros), inside = torch.zeros(2, *2 * [x.shape[1]], 3, 3), around(torch.ones(9, 8))
    for (i, j), part in places():
        own = torch.where(inside[part] > 0, dy, 0)
        without[:, :, i, j] = torch.einsum("nkhw,nchw->kc", own, around(x)[part])
        zeros[:, :, i, j] = torch.einsum("nkhw,nchw->kc", dy, around(x)[part])
    return without, zeros


def around(x):
    return torch.nn.functional.pad(x, (1, 1, 1, 1))


@pytest.mark.skipif(native.library() is None, reason=native.LIBRARY.state())
def test_convolution():
    """Beyond the image, Caffe multiplies zeros with weights; PyTorch and the kernels do in part."""
    shapes = {"x": (2, 16, 9, 8), "weight": (16, 16, 3, 3), "dy": (2, 16, 9, 8)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    for what, t in spoiled(tensors, tensors):
        x, weight, dy = (t[name].contiguous(memory_format=torch.channels_last) for name in t)
        found = [
            cpu.convolve_3x3(x, weight),
            cpu.convolve_3x3_data_gradient(dy, x, weight),
            cpu.convolve_3x3_weight_gradient(dy, x, weight),
        ]
        bounds = [
            convolved(x, weight),
            convolved(dy, weight.transpose(0, 1).flip(2, 3)),
            weight_diffs(dy, x),
        ]
        for value, (without, zeros) in zip(found, bounds, strict=True):
            assert (value.isfinite() | ~without.isfinite() | ~zeros.isfinite()).all(), what
            assert not (value.isfinite() & ~without.isfinite()).any(), what
        by_winograd = [
            winograd.forward(x, weight, None, (1, 1)),
            winograd.data_gradient(dy, weight, (1, 1)),
        ]
        for value, (without, zeros) in zip(by_winograd, bounds[:2], strict=True):
            assert not (value.isfinite() & ~without.isfinite()).any(), what
            spoilt = (~without.isfinite() | ~zeros.isfinite()).float()
            near = torch.nn.functional.max_pool2d(spoilt, 3, 1, 1) > 0  # a tile has 2 x 2 tops
            assert (value.isfinite() | near).all(), what


NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 16 dim: 1 dim: 3 } } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn"
        batch_norm_param { use_global_stats: true } }
layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
"""


@PRECISIONS
def test_a_rectifier_passes_nan_alone_and_fused(dtype):
    """As PyTorch's does, and its diff, too.

    BVLC Caffe 1.0 on a CPU makes [NaN, inf, NaN] of this bottom, 0 * -inf being NaN, and passes
    a diff of 0 at NaN.
    """
    device.set_precision("bf16" if dtype == torch.bfloat16 else "fp32")
    try:
        for alone in (False, True):
            net = caffe.Net(text_format.Parse(NET, caffe_pb2.NetParameter()), caffe.TRAIN)
            if alone:
                net.before_forward(lambda index: None)
            for blob, value in zip(net.params["bn"], (0, 1, 1), strict=True):
                blob.data[...] = value
            net.blobs["data"].data[...] = list(VALUES.values())
            net.forward()
            net.blobs["bn"].diff[...] = 3
            net.backward()
            np.testing.assert_array_equal(
                net.blobs["bn"].data[0, :, 0], [[math.nan, math.inf, 0]] * 16
            )
            np.testing.assert_allclose(net.blobs["data"].diff[0, :, 0], [[3, 3, 0]] * 16, rtol=1e-2)
    finally:
        device.set_precision("fp32")
