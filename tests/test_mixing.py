"""Mixup and CutMix of SceneData, and the loss that takes their labels, against the definitions."""

import numpy as np
import pytest
import torch

import caffe
from caffe.proto import caffe_pb2
from relaybp.layers.mixing import Mixer
from relaybp.layers.scene_message import parse_options
from scene_cases import CLASSES, forwards, layer, make_net, raw_lmdb
from test_catalogue_definitions import make_net as make_loss

RANDOM = np.random.RandomState(0)
COUNT = 12
CROPS = f"batch_size: {COUNT} crop_size: 8 mirror: true shuffle: true mean_value: 99 scale: 0.1 "
MIXUP, CUTMIX = "mixup_alpha: 0.7 ", "cutmix_alpha: 1 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixing")
    raw_lmdb(caffe_pb2, path / "raw")
    return path


@pytest.fixture(autouse=True)
def seed():
    caffe.set_random_seed(3)


def net(folder, options, phase="TRAIN", tops=("data", "label")):
    options = options if "workers" in options else "workers: 1 " + options
    return make_net(caffe, folder, layer(folder / "raw", options, tops), phase)


def share_of(labels, own, other):
    """What a row of labels gives to another image; None where both are of one class."""
    expected = np.zeros(CLASSES)
    if own == other:
        expected[own] = 1
        np.testing.assert_allclose(labels, expected, atol=1e-6)
        return None
    expected[own], expected[other] = labels[own], labels[other]
    np.testing.assert_array_equal(labels, expected)
    assert labels.sum() == pytest.approx(1)
    return labels[other]


def as_mixup(mixed, own, other):
    """The share s of (1 - s) own + s other, or None where `mixed` is no such image."""
    way = (other - own).ravel()
    share = float((mixed - own).ravel() @ way / max(way @ way, 1e-9))
    fits = np.allclose(mixed, own + share * (other - own), atol=1e-4)
    return share if fits else None


def as_cutmix(mixed, own, other):
    """The share of the box that is other's, the rest being own; None where there is no such box."""
    foreign = (mixed != own).any(0)
    rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
    if not len(rows):
        return 0.0
    box = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    fits = np.array_equal(mixed[box], other[box]) and foreign[box[1:]].all()
    return float(foreign.mean()) if fits else None


@pytest.mark.parametrize("options", [MIXUP, CUTMIX, MIXUP + CUTMIX])
def test_images_and_labels_are_mixed_alike(folder, options):
    plain, mixing = forwards(net(folder, CROPS), 4), forwards(net(folder, CROPS + options), 4)
    kinds = {MIXUP: as_mixup, CUTMIX: as_cutmix}
    seen = []
    for before, after in zip(plain, mixing, strict=True):
        images, labels = before["data"], before["label"].astype(int)
        assert after["label"].shape == (COUNT, CLASSES)
        partners = []
        for own, mixed in enumerate(after["data"]):
            found = [
                (other, name, share)
                for other in range(COUNT)
                for name, kind in kinds.items()
                if name in options
                and (share := kind(mixed, images[own], images[other])) is not None
            ]
            share = share_of(after["label"][own], labels[own], labels[found[0][0]])
            assert share is None or share == pytest.approx(found[0][2], abs=1e-3)
            if len(found) == 1 and share:
                partners.append(found[0][0])
                seen.append(found[0][1])
        assert len(set(partners)) == len(partners) > COUNT // 3
    assert all(name in seen for name in kinds if name in options)


def test_shares_are_of_the_beta_distribution():
    options = parse_options('source: "x" batch_size: 1 ' + MIXUP)
    mixer = Mixer(options, np.arange(CLASSES), torch.from_numpy)
    shares = np.concatenate([mixer.draw(np.arange(40) + at, 4, 4).shares for at in range(100)])
    assert shares.mean() == pytest.approx(0.5, abs=4 * (1 / 9.6 / 4000) ** 0.5)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.7 + 1)), rel=0.05)


def test_boxes_lie_anywhere_and_have_the_share_drawn():
    """Of Beta(1, 1), unless the border cuts the box: each pixel with the probability of its box."""
    options = parse_options('source: "x" batch_size: 1 ' + CUTMIX)
    mixer = Mixer(options, np.arange(CLASSES), torch.from_numpy)
    mix = mixer.draw(np.arange(4000), 9, 15)
    assert set(np.unique(mix.rows)) == set(np.unique(mix.columns)) == {0, 1}
    boxes = mix.rows[:, :, None] * mix.columns[:, None]
    np.testing.assert_allclose(boxes.mean((1, 2)), mix.shares, rtol=1e-6)
    where = boxes.mean(0)
    np.testing.assert_allclose(where, where[::-1, ::-1], atol=0.04)
    assert where[4, 7] == where.max() > 1.5 * where[0, 0] > 0


def test_the_same_bits_whatever_the_workers_and_from_any_batch_on(folder):
    options = MIXUP + CUTMIX
    first = forwards(net(folder, CROPS + options), 4)
    again = net(folder, CROPS + options + "workers: 3 ")
    again.layers[0].position = 2 * COUNT
    for ours, theirs in zip(forwards(again, 2), first[2:], strict=True):
        for top in ("data", "label"):
            np.testing.assert_array_equal(ours[top], theirs[top])
    assert not np.array_equal(first[0]["label"], first[1]["label"])


def test_a_test_mixes_nothing(folder):
    plain, mixing = (net(folder, CROPS + options, "TEST") for options in ("", MIXUP))
    for ours, theirs in zip(forwards(mixing, 2), forwards(plain, 2), strict=True):
        for top in ("data", "label"):
            np.testing.assert_array_equal(ours[top], theirs[top])


def test_classes_that_no_record_has_are_given(folder):
    tops = net(folder, CROPS + MIXUP + "classes: 9").forward()
    assert tops["label"].shape == (COUNT, 9) and not tops["label"][:, CLASSES:].any()


BAD = [
    ("mixup_alpha: -1", ("data", "label"), "mixup_alpha -1: expected 0 .none. or more"),
    (CUTMIX, ("data",), "a second top is needed, for the labels"),
    (MIXUP + "classes: 4", ("data", "label"), "labels from 0 to 4.* 4 classes, 0 to 3: give anoth"),
]


@pytest.mark.parametrize("options, tops, pattern", BAD)
def test_what_cannot_be_mixed_says_so(folder, options, tops, pattern):
    with pytest.raises(caffe.LayerError, match=pattern):
        net(folder, CROPS + options, tops=tops).forward()


# ---- the loss ------------------------------------------------------------------------------------

LOSSES = {
    "vector": ((6, 5), "", 1),
    "column": ((6, 5, 1, 1), "loss_param { normalization: BATCH_SIZE }", 1),
    "map": ((2, 4, 3, 2), "", 1),
    "last axis": ((2, 3, 4), "softmax_param { axis: -1 }", 2),
}


def draw_shares(shape, axis):
    """Shares of classes along an axis."""
    rest = shape[:axis] + shape[axis + 1 :]
    return np.moveaxis(RANDOM.dirichlet(np.ones(shape[axis]), rest), -1, axis)


@pytest.mark.parametrize("smoothing", [0, 0.3])
@pytest.mark.parametrize("case", LOSSES)
def test_loss_and_gradient_of_shares_are_torchs(case, smoothing):
    shape, options, axis = LOSSES[case]
    made = make_loss(f'type: "SoftmaxWithLoss" top: "y" loss_weight: 2 {options}', shape, shape)
    made.layer_dict["y"].label_smoothing = smoothing
    x, shares = RANDOM.normal(0, 2, shape), draw_shares(shape, axis)
    found = made.forward(a=x, b=shares)["y"]
    made.backward()
    scores = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        scores.movedim(axis, 1), torch.tensor(shares).movedim(axis, 1), label_smoothing=smoothing
    )
    (2 * loss).backward()
    np.testing.assert_allclose(found, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(made.blobs["a"].diff, scores.grad, rtol=1e-4, atol=1e-6)


def test_a_net_takes_shares_after_labels_and_labels_after_shares():
    made = make_loss('type: "SoftmaxWithLoss" top: "y"', (4, 3), (4,))
    x, labels = RANDOM.normal(0, 1, (4, 3)), np.array([0, 2, 1, 2])
    expected = float(made.forward(a=x, b=labels)["y"])
    made.blobs["b"].reshape(4, 3)
    made.reshape()
    assert made.forward(a=x, b=np.eye(3)[labels])["y"] == pytest.approx(expected)
    made.blobs["b"].reshape(4)
    made.reshape()
    assert made.forward(a=x, b=labels)["y"] == expected


@pytest.mark.parametrize("wrong", [[-0.1, 1.1, 0], [0.5, 0.5, 0.2], [0, 0, 0], [np.nan, 1, 0]])
def test_what_is_no_share_is_an_error(wrong):
    made = make_loss('type: "SoftmaxWithLoss" top: "y"', (4, 3), (4, 3))
    shares = draw_shares((4, 3), 1)
    shares[1] = wrong
    with pytest.raises(caffe.CaffeError, match="layer 'y'.*shares of the classes; expected 0 or m"):
        made.forward(a=RANDOM.normal(0, 1, (4, 3)), b=shares)


def test_shares_and_an_ignored_label_exclude_each_other():
    with pytest.raises(caffe.CaffeError, match="holds shares of the classes: none of them is ign"):
        make_loss('type: "SoftmaxWithLoss" top: "y" loss_param { ignore_label: 1 }', (4, 3), (4, 3))
