"""Losses and measures of forks against their definitions, written here once more in numpy."""

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import catalogue_cases
from caffe import device
from caffe.proto import caffe_pb2
from catalogue_judge import CASES, make_net
from test_catalogue_definitions import make_net as make

ROWS = {case.key: case for case in CASES}
RANDOM = np.random.RandomState(7)


def smooth(x, sigma=1.0):
    found = np.abs(x) - 0.5 / sigma**2
    near = np.abs(x) < 1 / sigma**2
    found[near] = 0.5 * (sigma * x[near]) ** 2
    return found


def softmax_terms(scores, labels):
    """-log p of each label, like the labels; scores (N, C, ...)."""
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return -np.log(np.take_along_axis(p, labels.astype(int), 1))


def l1(d, l2=False, scaled=False, epsilon=1e-2, plateau=0.0, entries=False):
    known = ~np.isnan(d)
    divisor = known.sum() / d.shape[1] if entries else len(d)
    d = np.where(known, d, 0)
    if not l2:
        return np.abs(d[np.abs(d) >= plateau]).sum() / divisor
    squares = (d**2).sum(1) / (d.shape[1] if scaled else 1)
    squares[squares < plateau**2] = 0
    return np.sqrt(squares + epsilon).sum() / divisor


def center(x, labels, centers):
    x = x.reshape(len(x), -1)
    return ((x - centers[labels.ravel().astype(int)]) ** 2).sum() / (2 * len(x))


def segmentation(counts):
    recalls = [row[i] / row.sum() for i, row in enumerate(counts) if row.sum()]
    unions = counts.sum(0) + counts.sum(1) - counts.diagonal()
    overlaps = [1 if not u else counts[i, i] / u for i, u in enumerate(unions)]
    return [counts.trace() / counts.sum(), np.mean(recalls), np.mean(overlaps)]


def confusion(scores, labels, ignored=()):
    classes = scores.shape[1]
    counts = np.zeros((classes, classes))
    for actual, found in zip(labels.ravel(), scores.argmax(1).ravel(), strict=True):
        if actual not in ignored:
            counts[int(actual), found] += 1
    return counts


DEFINED = {
    "SmoothL1Loss/plain": lambda a, b: smooth(a - b).sum() / 6,
    "SmoothL1Loss/large": lambda a, b: smooth(a - b.reshape(6, 8)).sum() / 6,
    "SmoothL1Loss/sigma": lambda a, b: smooth(a - b, 3).sum() / 6,
    "SmoothL1Loss/map": lambda a, b: smooth(a - b).sum() / 2,
    "SmoothL1Loss/weights": lambda a, b, w: smooth(w * (a - b)).sum() / 6,
    "SmoothL1Loss/fractions": lambda a, b, w: smooth(w * (a - b)).sum() / 6,
    "SmoothL1Loss/py_faster_rcnn": lambda a, b, w, v: (v * smooth(w * (a - b), 2)).sum() / 6,
    "SmoothL1LossOHEM/plain": lambda a, b: smooth(a - b).sum() / 6,
    "SmoothL1LossOHEM/weights": lambda a, b, w: smooth(w * (a.reshape(6, 8) - b)).sum() / 6,
    "SmoothL1LossOHEM/pre_fixed": lambda a, b, w: smooth(w * (a - b)).sum() / 128,
    "SmoothL1LossOHEM/each": lambda a, b: [
        smooth(a - b).sum() / 30,
        smooth(a - b).sum(1, keepdims=True),
    ],
    "L1Loss/one": lambda a: l1(a),
    "L1Loss/two": lambda a, b: l1(a - b),
    "L1Loss/plateau": lambda a, b: l1(a - b, plateau=0.3),
    "L1Loss/l2": lambda a, b: l1(a - b, l2=True),
    "L1Loss/l2_scaled": lambda a, b: l1(a - b, True, True, 0.1, 0.5, True),
    "SoftmaxWithLossOHEM/plain": lambda s, t: softmax_terms(s, t[:, None]).mean(),
    "SegAccuracy/plain": lambda s, t: np.reshape(segmentation(confusion(s, t)), (1, 1, 1, 3)),
    "SegAccuracy/ignore": lambda s, t: np.reshape(
        segmentation(confusion(s, t, (3, 5))), (1, 1, 1, 3)
    ),
    "Reverse/first": lambda x: x[::-1],
    "Reverse/last": lambda x: x[..., ::-1],
    "Transpose/lstm": lambda x: x.transpose(3, 2, 0, 1),
    "Transpose/two": lambda x: x.T,
}


@pytest.mark.parametrize("key", DEFINED)
def test_a_row_is_what_the_definition_says(key):
    case = ROWS[key]
    device.set_precision("fp64")
    try:
        net = make_net(case)
        found = catalogue_cases.run(net, case, 0)
        bottoms = [np.float64(net.blobs[f"bottom{i}"].data) for i in range(len(case.bottoms))]
    finally:
        device.set_precision("fp32")
    expected = DEFINED[key](*bottoms)
    expected = expected if isinstance(expected, list) else [expected]
    for index, value in enumerate(expected):
        np.testing.assert_allclose(found[f"top{index}"], value, rtol=1e-6)


def test_terms_of_ohem_are_those_of_the_sum_and_0_where_ignored():
    scores, labels = RANDOM.normal(0, 1, (2, 4, 3, 2)), RANDOM.randint(0, 4, (2, 1, 3, 2))
    net = make(
        'type: "SoftmaxWithLossOHEM" top: "y" top: "p" top: "each" loss_param { ignore_label: 2 }',
        scores.shape,
        labels.shape,
    )
    net.forward(a=scores, b=labels)
    terms = np.where(labels == 2, 0, softmax_terms(scores, labels))
    np.testing.assert_allclose(net.blobs["each"].data, terms, rtol=1e-5)
    assert float(net.blobs["y"].data) == pytest.approx(terms.sum() / (labels != 2).sum(), rel=1e-5)


def test_l1_loss_leaves_out_what_is_not_known():
    flow, truth = RANDOM.normal(0, 1, (2, 2, 3, 4)), RANDOM.normal(0, 1, (2, 2, 3, 4))
    truth[0, :, 1, 2] = np.nan
    net = make(
        'type: "L1Loss" top: "y" l1_loss_param { l2_per_location: true '
        "normalize_by_num_entries: true }",
        flow.shape,
        truth.shape,
    )
    assert float(net.forward(a=flow, b=truth)["y"]) == pytest.approx(
        l1(flow - truth, l2=True, entries=True), rel=1e-5
    )
    diff = net.backward()["a"]
    assert np.isfinite(diff).all() and not diff[0, :, 1, 2].any() and diff[0, :, 1, 1].any()


def test_centers_follow_the_means_whatever_the_loss_weighs():
    x, labels = RANDOM.normal(0, 1, (5, 3)), np.array([0, 2, 2, 0, 2])
    for weight in (1, 0.008):
        net = make(
            f'type: "CenterLoss" top: "y" loss_weight: {weight} center_loss_param '
            "{ num_output: 3 center_filler { type: 'gaussian' } }",
            x.shape,
            labels.shape,
        )
        centers = net.params["y"][0].data.copy()
        assert float(net.forward(a=x, b=labels)["y"]) == pytest.approx(
            center(x, labels, centers), rel=1e-5
        )
        dx = net.backward()["a"]
        np.testing.assert_allclose(dx, weight * (x - centers[labels]) / 5, rtol=1e-4, atol=1e-7)
        expected = np.zeros((3, 3))
        for k in range(3):
            mine = x[labels == k]
            expected[k] = (centers[k] - mine).sum(0) / (len(mine) + 1)
        np.testing.assert_allclose(net.params["y"][0].diff, expected, rtol=1e-4, atol=1e-7)


def test_the_hardest_regions_of_each_image_keep_their_labels():
    rois = np.zeros((6, 5))
    rois[:, 0] = [0, 0, 1, 1, 1, 0]
    losses, labels = [0.5, 2, 0.1, 0.3, 0.2, 1], [3, 1, 4, 1, 5, 9]
    weights = RANDOM.uniform(1, 2, (6, 4))
    text = "\n".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {n}" for n in shape)
        + " } } }"
        for name, shape in [("r", (6, 5)), ("l", (6,)), ("t", (6,)), ("w", (6, 4))]
    )
    text += """ layer { name: "o" type: "BoxAnnotatorOHEM" bottom: "r" bottom: "l" bottom: "t"
        bottom: "w" top: "labels" top: "weights" box_annotator_ohem_param { roi_per_img: 2 } }"""
    tops = caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN).forward(
        r=rois, l=losses, t=labels, w=weights
    )
    np.testing.assert_array_equal(tops["labels"], [-1, 1, -1, 1, 5, 9])
    kept = np.array([0, 1, 0, 1, 1, 1])[:, None]
    np.testing.assert_allclose(tops["weights"], weights * kept, rtol=1e-6)


def test_one_channel_is_the_score_of_label_1():
    net = make('type: "SegAccuracy" top: "y"', (2, 1, 3, 4), (2, 1, 3, 4), phase=caffe.TEST)
    scores, labels = RANDOM.uniform(size=(2, 1, 3, 4)), RANDOM.randint(0, 2, (2, 1, 3, 4))
    net.blobs["a"].data[...], net.blobs["b"].data[...] = scores, labels
    both = np.concatenate([1 - scores, scores], 1)
    found = net.forward()["y"].ravel()
    np.testing.assert_allclose(found, segmentation(confusion(both, labels)), rtol=1e-5)


def test_segmentation_is_measured_over_all_batches_if_told():
    net = make(
        'type: "SegAccuracy" top: "y" seg_accuracy_param { reset: false ignore_label: 255 }',
        (2, 3, 4, 5),
        (2, 1, 4, 5),
    )
    counts = 0
    for _ in range(3):
        scores, labels = RANDOM.normal(0, 1, (2, 3, 4, 5)), RANDOM.randint(0, 2, (2, 1, 4, 5))
        labels[0, 0, 0] = 255
        scores[:, 2] = -9  # a class that is neither there nor found
        counts = counts + confusion(scores, labels, (255,))
        top = net.forward(a=scores, b=labels)["y"]
        np.testing.assert_allclose(top.ravel(), segmentation(counts), rtol=1e-5)
    with pytest.raises(caffe.CaffeError, match="label 4"):
        net.forward(a=scores, b=np.full((2, 1, 4, 5), 4))
