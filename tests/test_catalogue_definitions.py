"""Layers that BVLC Caffe cannot check: against their definitions, and promised errors."""

import math

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
from caffe import device
from caffe.files import weights
from caffe.proto import caffe_pb2

RANDOM = np.random.RandomState(5)


def make_net(layer, *shapes, phase=caffe.TRAIN):
    """A net of Input layers "a", "b", ... of the shapes, and of the layer "y"."""
    names = "abc"[: len(shapes)]
    inputs = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {size}" for size in shape)
        + " } } }"
        for name, shape in zip(names, shapes, strict=True)
    ]
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    text = f'force_backward: true {" ".join(inputs)} layer {{ name: "y" {bottoms} {layer} }}'
    return caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), phase)


def windows(image, kernel, stride, size):
    """(row, column, values) of each window of an (H, W) image, cut off at its border."""
    for row, column in np.ndindex(size):
        top, left = row * stride, column * stride
        yield row, column, image[top : top + kernel, left : left + kernel]


STOCHASTIC = 'type: "Pooling" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }'


def test_stochastic_pooling_gives_the_weighted_mean_in_test_phase():
    net = make_net(STOCHASTIC, (1, 1, 6, 5), phase=caffe.TEST)
    image = RANDOM.uniform(0, 1, (6, 5)).astype(np.float32)
    y = net.forward(a=image[None, None])["y"][0, 0]
    assert y.shape == (3, 2)  # (6 - 3) / 2 + 1, rounded up
    for row, column, values in windows(image, 3, 2, y.shape):
        assert y[row, column] == pytest.approx((values**2).sum() / values.sum(), rel=1e-5)


def test_stochastic_pooling_draws_in_proportion_and_sends_the_diff_where_it_drew():
    caffe.set_random_seed(3)
    count = 4000
    net = make_net(STOCHASTIC, (count, 1, 6, 5))
    image = RANDOM.permutation(30).reshape(6, 5).astype(np.float32)  # 0 among them
    y = net.forward(a=np.broadcast_to(image, (count, 1, 6, 5)))["y"][:, 0]
    for row, column, values in windows(image, 3, 2, y.shape[1:]):
        for value in values.flat:
            share, expected = (y[:, row, column] == value).mean(), value / values.sum()
            assert abs(share - expected) <= 5 * math.sqrt(expected / count)
    net.blobs["y"].diff[...] = 1
    dx = net.backward()["a"][:, 0]
    drawn = np.stack([[(one == value).sum() for value in image.flat] for one in y])
    np.testing.assert_array_equal(dx.reshape(count, -1), drawn)


def test_stochastic_pooling_of_zeros_is_zero():
    net = make_net(STOCHASTIC, (1, 1, 5, 5))
    assert not net.forward(a=np.zeros((1, 1, 5, 5)))["y"].any()


def test_softmax_loss_hands_out_the_probabilities():
    net = make_net(
        'type: "SoftmaxWithLoss" top: "y" top: "p" softmax_param { axis: 1 }', (2, 3, 4), (2, 4)
    )
    scores, labels = RANDOM.normal(0, 1, (2, 3, 4)), RANDOM.randint(0, 3, (2, 4))
    tops = net.forward(a=scores, b=labels)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(tops["p"], p, rtol=1e-5)
    chosen = np.take_along_axis(p, labels[:, None], 1)
    assert tops["y"] == pytest.approx(-np.log(chosen).mean(), rel=1e-6)
    hot = np.eye(3)[labels].transpose(0, 2, 1)
    np.testing.assert_allclose(net.backward()["a"], (p - hot) / 8, atol=1e-7)


def test_infogain_loss_reads_its_matrix_from_a_file(tmp_path):
    matrix = RANDOM.normal(0, 1, (1, 1, 4, 4)).astype(np.float32)
    weights.write_blob(tmp_path / "h.binaryproto", matrix)
    scores, labels = RANDOM.normal(0, 1, (5, 4)), RANDOM.randint(0, 4, 5)
    net = make_net(
        'type: "InfogainLoss" top: "y" infogain_loss_param '
        f'{{ source: "{tmp_path / "h.binaryproto"}" }}',
        (5, 4),
        (5,),
    )
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -(matrix[0, 0][labels] * log_p).sum() / 5
    assert net.forward(a=scores, b=labels)["y"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layer", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss"])
@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range_is_an_error(layer, label):
    net = make_net(f'type: "{layer}" top: "y"', (3, 5), (3,))
    with pytest.raises(caffe.CaffeError, match=f"layer 'y'.*label {label}.*0 to 4.*mend the data"):
        net.forward(a=RANDOM.uniform(0, 1, (3, 5)), b=[0, label, 4])


def test_an_ignored_label_may_lie_out_of_range():
    net = make_net('type: "Accuracy" top: "y" accuracy_param { ignore_label: 255 }', (2, 3), (2,))
    with pytest.raises(caffe.CaffeError, match="label 3"):
        net.forward(a=np.eye(2, 3), b=[0, 3])
    assert net.forward(a=np.eye(2, 3), b=[0, 255])["y"] == 1


def test_losses_are_summed_in_single_precision_under_bf16():
    """1000 classes, labels beyond the 256 that bf16 can count to."""
    device.set_precision("bf16")
    try:
        net = make_net('type: "SoftmaxWithLoss" top: "y"', (4, 1000, 1, 1), (4,))
        labels = np.array([257, 511, 999, 700])
        scores = torch.from_numpy(RANDOM.normal(0, 3, (4, 1000))).bfloat16()
        loss = net.forward(a=scores.float().numpy()[:, :, None, None], b=labels)["y"]
        assert net.nodes[0].tops[0].tensor.dtype == torch.bfloat16
        assert net.nodes[-1].tops[0].tensor.dtype == torch.float32
    finally:
        device.set_precision("fp32")
    expected = torch.nn.functional.cross_entropy(scores.double(), torch.from_numpy(labels))
    assert loss == pytest.approx(float(expected), rel=1e-6)
