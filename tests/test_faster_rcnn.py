"""Faster R-CNN's training targets, by definition, and a small net that trains with them."""

import math

import numpy as np
import pytest
import torch

import caffe
from caffe.catalogue.forks import faster_rcnn
from caffe.catalogue.forks.proposal import moved
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2

RANDOM = np.random.RandomState(2)


def jaccard(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(width, 0) * max(height, 0)
    sizes = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
    return both / (sum(sizes) - both)


def boxes(count, size=60):
    low = RANDOM.uniform(0, size, (count, 2))
    return np.hstack([low, low + RANDOM.uniform(8, 40, (count, 2))])


def test_codes_move_a_box_to_its_object():
    a, b = boxes(20), boxes(20)
    found = moved(a, faster_rcnn.coded(a, b))  # its corners lie half a pixel further out
    np.testing.assert_allclose(found, b + [0, 0, 1, 1], atol=1e-9)
    by_hand = faster_rcnn.coded(np.array([[0, 0, 9, 19]]), np.array([[5, 0, 24, 19]]))
    np.testing.assert_allclose(by_hand, [[1.0, 0, math.log(2), 0]])


def test_anchors_are_labelled_by_overlap_and_each_object_has_one():
    anchors, truths = boxes(300), boxes(4)
    labels, owner = faster_rcnn.label_anchors(anchors, truths, (90, 95))
    shared = np.array([[jaccard(a, t) for t in truths] for a in anchors])
    inside = (anchors[:, 2] < 95) & (anchors[:, 3] < 90)
    assert (labels[~inside] == -1).all() and 0 < (~inside).sum() < 300
    shared[~inside] = 0
    best = shared.max(1)
    top = {int(index) for index in shared.argmax(0)}
    for index in np.flatnonzero(inside):
        expected = 1 if best[index] >= 0.7 or index in top else 0 if best[index] < 0.3 else -1
        assert labels[index] in ({expected} if expected == 1 else {expected, -1})
        assert owner[index] == shared[index].argmax()
    assert set(np.flatnonzero(labels == 1)) >= top


def test_at_most_256_anchors_count_half_of_them_objects():
    truth = np.array([[20.0, 20, 59, 59]])
    near = np.tile(truth, (400, 1)) + RANDOM.uniform(-1, 1, (400, 4))
    far = np.tile([[60.0, 0, 79, 10]], (400, 1))
    labels, _ = faster_rcnn.label_anchors(np.vstack([near, far]), truth, (90, 90))
    assert ((labels == 1).sum(), (labels == 0).sum()) == (128, 128)
    labels, _ = faster_rcnn.label_anchors(np.vstack([near[:10], far]), truth, (90, 90))
    assert ((labels == 1).sum(), (labels == 0).sum()) == (10, 246)


def test_regions_are_objects_first_then_ground():
    truths = boxes(3)
    near = truths[RANDOM.randint(0, 3, 100)] + RANDOM.uniform(-1, 1, (100, 4))
    regions = np.vstack([near, boxes(300)])
    rows, owner, objects = faster_rcnn.draw_regions(regions, truths)
    assert (len(rows), objects, len(set(rows))) == (128, 32, 128)
    for place, (row, mine) in enumerate(zip(rows, owner, strict=True)):
        shared = [jaccard(regions[row], truth) for truth in truths]
        assert (max(shared) >= 0.5) == (place < objects) and int(np.argmax(shared)) == mine


# ---- a net --------------------------------------------------------------------------------------


def conv(name, bottom, outputs, kernel=3, stride=1, relu=True):
    pad = kernel // 2
    text = (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride} "
        f'pad: {pad} weight_filler {{ type: "msra" }} }} }}\n'
    )
    if relu:
        text += f'layer {{ name: "{name}_r" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    return text


def python(name, module, layer, param, bottoms, tops):
    blobs = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return (
        f'layer {{ name: "{name}" type: "Python" {blobs} python_param {{ module: "{module}" '
        f'layer: "{layer}" param_str: "{param}" }} }}\n'
    )


def product(name, bottom, outputs, std=0.01):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f"inner_product_param {{ num_output: {outputs} "
        f'weight_filler {{ type: "gaussian" std: {std} }} }} }}\n'
    )


def net(images):
    """Faster R-CNN as its train.prototxt has it, on a trunk of five convolutions."""
    rpn = ["rpn_labels", "rpn_targets", "rpn_inside", "rpn_outside"]
    roi = ["rois", "labels", "targets", "inside", "outside"]
    param = "'feat_stride': 8\\n'scales': [1, 2]"
    return (
        python("in", "faster_rcnn_data", "Drawn", images, [], ["data", "im_info", "gt_boxes"])
        + conv("c1", "data", 16, stride=2)
        + conv("c2", "c1", 32, stride=2)
        + conv("c3", "c2", 48, stride=2)
        + conv("c4", "c3", 48)
        + conv("rpn", "c4", 48)
        + conv("score", "rpn", 12, 1, relu=False)
        + conv("pred", "rpn", 24, 1, relu=False)
        + 'layer { name: "s2" type: "Reshape" bottom: "score" top: "s2" '
        "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }"
        + python(
            "at",
            "rpn.anchor_target_layer",
            "AnchorTargetLayer",
            param,
            ["score", "gt_boxes", "im_info", "data"],
            rpn,
        )
        + 'layer { name: "rpn_cls" type: "SoftmaxWithLoss" bottom: "s2" bottom: "rpn_labels" '
        'top: "rpn_cls" propagate_down: true propagate_down: false loss_weight: 1 '
        "loss_param { ignore_label: -1 normalize: true } }"
        'layer { name: "rpn_box" type: "SmoothL1Loss" bottom: "pred" bottom: "rpn_targets" '
        'bottom: "rpn_inside" bottom: "rpn_outside" top: "rpn_box" loss_weight: 1 '
        "smooth_l1_loss_param { sigma: 3 } }"
        'layer { name: "p2" type: "Softmax" bottom: "s2" top: "p2" }'
        'layer { name: "prob" type: "Reshape" bottom: "p2" top: "prob" '
        "reshape_param { shape { dim: 0 dim: 12 dim: -1 dim: 0 } } }"
        + python(
            "propose",
            "rpn.proposal_layer",
            "ProposalLayer",
            param,
            ["prob", "pred", "im_info"],
            ["rpn_rois"],
        )
        + python(
            "rt",
            "rpn.proposal_target_layer",
            "ProposalTargetLayer",
            "'num_classes': 4",
            ["rpn_rois", "gt_boxes"],
            roi,
        )
        + 'layer { name: "pool" type: "ROIPooling" bottom: "c4" bottom: "rois" top: "pool" '
        "roi_pooling_param { pooled_h: 4 pooled_w: 4 spatial_scale: 0.125 } }"
        + product("fc", "pool", 64, 0.05)
        + 'layer { name: "fc_r" type: "ReLU" bottom: "fc" top: "fc" }'
        + product("cls", "fc", 4)
        + product("box", "fc", 16, 0.001)
        + 'layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls" bottom: "labels" '
        'top: "loss_cls" loss_weight: 1 propagate_down: true propagate_down: false }'
        'layer { name: "loss_box" type: "SmoothL1Loss" bottom: "box" bottom: "targets" '
        'bottom: "inside" bottom: "outside" top: "loss_box" loss_weight: 1 }'
    )


def solver(images, prefix=""):
    param = caffe_pb2.SolverParameter(
        base_lr=0.01, lr_policy="fixed", momentum=0.9, max_iter=9, random_seed=1
    )
    param.snapshot_after_train, param.snapshot_prefix = False, prefix
    parse_text(net(images), param.net_param)
    return caffe.get_solver(param)


def test_the_python_layers_of_faster_rcnn_train_end_to_end():
    made = solver(2)
    before = {name: blobs[0].data.copy() for name, blobs in made.net.params.items()}
    made.step(3)
    shapes = {name: made.net.blobs[name].data.shape for name in made.net.blobs}
    height, width = shapes["score"][2:]
    assert shapes["rpn_labels"] == (1, 1, 6 * height, width)
    assert shapes["rpn_targets"] == shapes["rpn_inside"] == (1, 24, height, width)
    assert shapes["targets"] == (shapes["rois"][0], 16) and shapes["labels"] == shapes["rois"][:1]
    for name, values in before.items():
        assert not np.array_equal(values, made.net.params[name][0].data), name
    labels, weights = (made.net.blobs[name].data for name in ("rpn_labels", "rpn_outside"))
    counted = (labels >= 0).sum()
    assert weights.sum() == pytest.approx(4, rel=1e-5) and weights.max() == pytest.approx(
        1 / counted
    )


def drawn(made):
    """The anchors and regions that a solver's next two iterations train on."""
    made.step(2)
    return [made.net.blobs[name].data.copy() for name in ("rpn_labels", "rois")]


def test_a_resumed_run_draws_what_the_other_drew(tmp_path):
    """And so does a second run, whatever numpy's global generator does."""
    made = solver(1, str(tmp_path / "at"))
    made.step(1)
    state = made.snapshot()
    expected = drawn(made)
    np.random.seed(7)
    for go_on in (lambda solver: solver.restore(state), lambda solver: solver.step(1)):
        other = solver(1)
        go_on(other)
        labels, regions = drawn(other)
        np.testing.assert_array_equal(labels, expected[0])
        np.testing.assert_array_equal(regions, expected[1])


def test_of_a_permutation_those_are_drawn_that_numpy_would_take(monkeypatch):
    """As py-faster-rcnn's numpy.random.choice(rows, count, replace=False)."""
    rows, order = np.arange(100, 140), np.random.RandomState(4).permutation(40)
    monkeypatch.setattr(torch, "randperm", lambda count, generator: torch.from_numpy(order))
    expected = np.random.RandomState(4).choice(rows, 12, replace=False)
    np.testing.assert_array_equal(faster_rcnn._drawn(rows, 12), expected)


@pytest.mark.heavy
def test_it_learns_the_classes_and_boxes_of_drawn_shapes():
    images, right, total, losses = 6, 0, 0, []
    made = solver(images)
    for _ in range(60):
        made.step(10)
        losses.append(sum(float(made.net.blobs[name].data) for name in made.net.outputs))
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:3])
    for _ in range(images):
        made.net.forward()
        labels = made.net.blobs["labels"].data.astype(int)
        found = made.net.blobs["cls"].data.argmax(1)
        right, total = right + (found == labels)[labels > 0].sum(), total + (labels > 0).sum()
    assert right / total > 0.7
