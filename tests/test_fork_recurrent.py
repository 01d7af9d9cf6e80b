"""Lstm, ConvLSTM and CTPN's proposals against their definition, gradients against autograd's."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

import caffe
import catalogue_cases
from caffe import device
from catalogue_judge import CASES, make_net
from test_forks_definitions import run, same

ROWS = {case.key: case for case in CASES if case.type in ("Lstm", "ConvLSTM")}
RANDOM = np.random.RandomState(6)


@pytest.fixture(autouse=True)
def double_precision():
    device.set_precision("fp64")
    yield
    device.set_precision("fp32")


def step(z, c, cont, axis):
    """One step of an LSTM; z: the gates' sums."""
    i, f, o, g = z.chunk(4, axis)
    c = torch.sigmoid(f) * cont * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def lstm(case, x, cont, states, blobs):
    (h, c), (wx, wh, b), found = states, blobs, []
    for t in range(len(x)):
        z = x[t] @ wx.T + (cont[t][:, None] * h) @ wh.T + b
        h, c = step(z, c, cont[t][:, None], 1)
        found.append(h)
    return torch.stack(found), h, c


def conv_lstm(case, x, cont, states, blobs):
    (h, c), found = states, []
    window = {"padding": 2, "dilation": 2} if "dilation: 2" in case.options else {"padding": 1}
    for t in range(len(x)):
        one = cont[t][:, None, None, None]
        gates = []
        for gate in range(4):
            weight, bias = blobs[4 + 2 * gate : 6 + 2 * gate]
            z = conv2d(x[t], blobs[gate], **window) + conv2d(h * one, weight, bias, **window)
            if gate < 3 and len(blobs) > 12:
                z = z + blobs[12 + gate] * c  # (H, W) or (K, H, W)
            gates.append(z)
        h, c = step(torch.cat(gates, 1), c, one, 1)
        found.append(h)
    return torch.stack(found), h, c


def tensors(arrays):
    return [torch.tensor(np.array(a), dtype=torch.float64, requires_grad=True) for a in arrays]


@pytest.mark.parametrize("case", ROWS.values(), ids=lambda case: case.key)
def test_all_passes_and_gradients_are_those_of_the_definition(case):
    """States go on from one pass to the next, and no gradient with them."""
    definition = lstm if case.type == "Lstm" else conv_lstm
    net, random = make_net(case), catalogue_cases.random_state(case, 0)
    params, _ = catalogue_cases.fill_params(net, case, random)
    states, total = None, [0] * len(params)
    for _ in range(max(case.passes, 2)):
        for i, spec in enumerate(case.bottoms):
            shape, kind = catalogue_cases.shape_of(spec), spec.partition(" ")[2]
            net.blobs[f"bottom{i}"].data[...] = catalogue_cases.draw(kind, shape, random)
        net.forward()
        x, *others = tensors(net.blobs[f"bottom{i}"].data for i in range(len(case.bottoms)))
        cont = others[0].detach() if others else torch.tensor([[0.0]] + [[1.0]] * (len(x) - 1))
        cont = cont.expand(x.shape[:2]).double()
        if len(others) > 1:
            states = [state[0].detach() for state in others[1:]]
        if states is None or not others:
            shape = np.array(net.blobs["top0"].data.shape[1:])
            states = [torch.zeros(*shape, dtype=torch.float64)] * 2
        blobs = tensors(blob.data for blob in params)
        y, *states = definition(case, x, cont, states, blobs)
        states = [state.detach() for state in states]
        same(net.blobs["top0"].data, y.detach())
        for i in range(1, case.tops):
            same(net.blobs[f"top{i}"].data[0], states[i - 1])
        dy = random.normal(size=y.shape)
        net.blobs["top0"].diff[...] = dy
        net.backward()
        gradients = torch.autograd.grad(y, [x, *blobs], torch.tensor(dy))
        same(net.blobs["bottom0"].diff, gradients[0])
        total = [a + b.numpy() for a, b in zip(total, gradients[1:], strict=True)]
    for blob, expected in zip(params, total, strict=True):
        same(blob.diff, expected)


def test_ctpn_cuts_the_diffs_of_gates_off():
    case = ROWS["Lstm/one_step"]
    small = catalogue_cases.Case(
        "Lstm", "one_step", "lstm_param { num_output: 3 clipping_threshold: 0.01 }", "1x2x4"
    )
    diffs = []
    for each in (case, small):
        net = make_net(each)
        catalogue_cases.fill_params(net, case, np.random.RandomState(0))
        net.blobs["bottom0"].data[...] = np.random.RandomState(1).normal(size=(1, 2, 4))
        net.forward()
        net.blobs["top0"].diff[...] = 1
        net.backward()
        diffs.append(net.params["layer"][2].diff.copy())  # the sum over 2 sequences
    assert np.abs(diffs[0]).max() > 0.1 and np.abs(diffs[1]).max() <= 0.02


def test_the_slices_of_lines_that_ctpn_proposes():
    options = """python_param { module: "layers.text_proposal_layer" layer: "ProposalLayer"
      param_str: "'feat_stride': 16" }"""
    scores, codes = RANDOM.uniform(size=(1, 20, 2, 3)), 0.3 * RANDOM.normal(size=(1, 20, 2, 3))
    (boxes, found), _ = run("Python", options, scores, codes, np.array([[40, 60, 1]]), tops=2)
    expected, order = [], []
    tops_and_bottoms = [(2, 12), (0, 15), (-3, 18), (-8, 23), (-16, 31)]  # by hand, of the first
    for y, x, anchor in np.ndindex(2, 3, 10):
        order.append(scores[0, 10 + anchor, y, x])
        if anchor >= len(tops_and_bottoms):
            continue
        top, bottom = tops_and_bottoms[anchor]
        height = bottom - top + 1
        center = (top + bottom) / 2 + 16 * y + codes[0, 2 * anchor, y, x] * height
        size = np.exp(codes[0, 2 * anchor + 1, y, x]) * height
        box = [16 * x, center - size / 2, 16 * x + 15, center + size / 2]
        expected.append(np.clip(box, 0, [59, 39, 59, 39]))
    same(found[:, 0], order)
    same(boxes.reshape(6, 10, 4)[:, :5].reshape(-1, 4), expected)
    with pytest.raises(caffe.CaffeError, match="'feat_stride': 16"):
        run("Python", options.replace("feat_stride", "stride"), scores, codes, found[:3], tops=2)
    with pytest.raises(caffe.CaffeError, match=r"scores and codes \(1, 20, H, W\)"):
        run("Python", options, scores[:, :5], codes, found[:3], tops=2)
