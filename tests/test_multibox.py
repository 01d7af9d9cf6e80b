"""MultiBoxLoss against SSD's procedure, written here box by box."""

import math

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import catalogue_cases
from caffe import device
from caffe.proto import caffe_pb2
from catalogue_judge import CASES, make_net

ROWS = [case for case in CASES if case.type == "MultiBoxLoss"]


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def jaccard(a, b):
    both = area([*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:])])
    return both / (area(a) + area(b) - both)


def center_size(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encoded(box, prior, variance, code_type):
    (x, y, w, h), (px, py, pw, ph) = center_size(box), center_size(prior)
    codes = {
        "CORNER": [b - p for b, p in zip(box, prior, strict=True)],
        "CORNER_SIZE": [(b - p) / s for b, p, s in zip(box, prior, (pw, ph, pw, ph), strict=True)],
        "CENTER_SIZE": [(x - px) / pw, (y - py) / ph, math.log(w / pw), math.log(h / ph)],
    }[code_type]
    return np.array(codes) / variance


def bipartite(priors, boxes, matched):
    """The rest of the best pairs, one after the other."""
    pairs = [
        (-jaccard(prior, box), p, g)
        for p, prior in enumerate(priors)
        for g, box in enumerate(boxes)
        if p not in matched and g not in matched.values() and jaccard(prior, box) > 1e-6
    ]
    if pairs:
        _, p, g = min(pairs)
        matched[p] = g
        bipartite(priors, boxes, matched)
    return matched


class Brute:
    """The loss of one row, from the options' text."""

    def __init__(self, case, codes, scores, priors, truth):
        param = text_format.Parse(case.prototxt(), caffe_pb2.NetParameter()).layer[-1]
        self.o, self.normalization = param.multibox_loss_param, param.loss_param.normalization
        self.enum = lambda name: (
            self.o.DESCRIPTOR.fields_by_name[name]
            .enum_type.values_by_number[getattr(self.o, name)]
            .name
        )
        self.priors, self.variances = priors.reshape(2, -1, 4)
        self.count = len(self.priors)
        self.codes = codes.reshape(3, self.count, -1, 4)
        self.scores = scores.reshape(3, self.count, -1)
        self.truth = truth.reshape(-1, 8)
        self.mining = self.enum("mining_type")
        if self.o.HasField("do_neg_mining") and not self.o.do_neg_mining:
            self.mining = "NONE"

    def value(self):
        locations, confidences, matches = 0, 0, 0
        for image in range(3):
            self.boxes = self.priors.tolist()
            if not self.o.use_prior_for_matching:
                self.boxes = [self.decoded(image, p) for p in range(self.count)]
            rows = [r for r in self.truth if r[0] == image]
            if not self.o.use_difficult_gt:
                rows = [r for r in rows if not r[7]]
            matched = self.match(rows)
            kept, negatives = self.mine(image, rows, matched)
            matches += len(kept)
            for p, g in kept.items():
                slot = 0 if self.o.share_location else int(rows[g][1])
                locations += self.location(image, slot, p, rows[g])
                confidences += self.confidence(image, p, self.label(rows[g]))
            confidences += sum(self.confidence(image, p, None) for p in negatives)
        divisor = {caffe_pb2.LossParameter.VALID: matches, caffe_pb2.LossParameter.BATCH_SIZE: 3}[
            self.normalization
        ]
        return (self.o.loc_weight * locations + confidences) / max(divisor, 1)

    def label(self, row):
        return 1 if self.o.map_object_to_agnostic else int(row[1])

    def match(self, rows):
        boxes = [r[3:7] for r in rows]
        priors = [[0, 0, 0, 0] if self.is_left_out(prior) else prior for prior in self.boxes]
        matched = bipartite(priors, boxes, {})
        for p, prior in enumerate(priors if self.enum("match_type") != "BIPARTITE" else []):
            shared = [jaccard(prior, box) for box in boxes]
            if p not in matched and shared and max(shared) >= self.o.overlap_threshold:
                matched[p] = int(np.argmax(shared))
        return matched

    def decoded(self, image, p):
        """The box that codes of CENTER_SIZE say."""
        dx, dy, dw, dh = self.codes[image, p, 0] * self.variances[p]
        x, y, w, h = center_size(self.priors[p])
        x, y, w, h = x + dx * w, y + dy * h, w * math.exp(dw), h * math.exp(dh)
        return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]

    def is_left_out(self, prior):
        return self.o.ignore_cross_boundary_bbox and (min(prior) < 0 or max(prior) > 1)

    def mine(self, image, rows, matched):
        """The matches that stay, and the boxes that count as background."""
        if self.mining == "NONE":
            return matched, [p for p in range(self.count) if p not in matched]
        if not rows:
            return {}, []
        labels = {p: self.label(rows[g]) for p, g in matched.items()}
        losses = [self.confidence(image, p, labels.get(p)) for p in range(self.count)]
        shared = [max(jaccard(box, r[3:7]) for r in rows) for box in self.boxes]
        if self.mining == "MAX_NEGATIVE":
            found = [
                p for p in range(self.count) if p not in matched and shared[p] < self.o.neg_overlap
            ]
            most = int(len(matched) * self.o.neg_pos_ratio)
            return matched, sorted(found, key=lambda p: -losses[p])[:most]
        for p, g in matched.items():
            losses[p] += self.location(image, 0, p, rows[g])
        found = sorted(range(self.count), key=lambda p: -losses[p])
        if self.o.HasField("nms_param"):
            found = self.suppressed(found[: self.o.nms_param.top_k])
        found = set(found[: self.o.sample_size])
        return {p: g for p, g in matched.items() if p in found}, found - set(matched)

    def suppressed(self, order):
        kept = []
        for p in order:
            if all(
                jaccard(self.priors[p], self.priors[k]) <= self.o.nms_param.nms_threshold
                for k in kept
            ):
                kept.append(p)
        return kept

    def location(self, image, slot, p, row):
        code, variance = self.codes[image, p, slot], self.variances[p]
        if self.o.encode_variance_in_target:
            target = encoded(row[3:7], self.priors[p], 1, self.enum("code_type"))
            d = code / variance - target / variance
        else:
            d = code - encoded(row[3:7], self.priors[p], variance, self.enum("code_type"))
        if self.o.bp_inside:
            d = [x if 0 <= c <= 1 else 0 for x, c in zip(d, self.boxes[p], strict=True)]
        if self.enum("loc_loss_type") == "L2":
            return sum(x * x / 2 for x in d)
        return sum(x * x / 2 if abs(x) < 1 else abs(x) - 0.5 for x in d)

    def confidence(self, image, p, label):
        x = self.scores[image, p]
        if self.enum("conf_loss_type") == "SOFTMAX":
            return math.log(sum(np.exp(x))) - x[label or 0]
        target = np.zeros(len(x))
        if label or self.mining != "NONE":
            target[label or 0] = 1
        q = 1 / (1 + np.exp(-x))
        return -(target * np.log(q) + (1 - target) * np.log(1 - q)).sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_the_loss_is_what_the_procedure_says(case, seed):
    device.set_precision("fp64")
    try:
        net = make_net(case)
        found = catalogue_cases.run(net, case, seed)["top0"]
        bottoms = [np.float64(net.blobs[f"bottom{i}"].data) for i in range(4)]
    finally:
        device.set_precision("fp32")
    assert float(found) == pytest.approx(Brute(case, *bottoms).value(), rel=1e-6)


def test_without_objects_there_is_no_loss_but_that_of_all_boxes():
    def loss(options):
        case = catalogue_cases.Case(
            "MultiBoxLoss",
            "none",
            f"multibox_loss_param {{ num_classes: 4 {options} }}",
            "3x120",
            "3x120",
            "1x2x120 priors",
            "1x1x1x8 constant -1",
            backward=None,
        )
        return float(catalogue_cases.run(make_net(case), case, 0)["top0"])

    assert loss("") == 0
    assert loss("mining_type: NONE") > 90 * 0.5  # -log p of 90 boxes, divided by 1


@pytest.mark.parametrize("label", [0, 4])
def test_an_object_of_no_class_is_an_error(label):
    net = make_net(ROWS[0])
    net.blobs["bottom2"].data[...] = catalogue_cases.draw(
        "priors", (1, 2, 120), np.random.RandomState(0)
    )
    net.blobs["bottom3"].data[...] = [0, label, 0, 0.1, 0.1, 0.5, 0.5, 0]
    with pytest.raises(
        caffe.CaffeError, match=f"bottom 3 holds an object of label {label}; .* 0 to 3"
    ):
        net.forward()


def test_one_box_matched_by_hand():
    """A prior that covers the object by half is matched; the gradient of its codes is 1 or less."""
    case = catalogue_cases.Case(
        "MultiBoxLoss",
        "hand",
        "multibox_loss_param { num_classes: 2 code_type: CORNER }",
        "1x8",
        "1x4",
        "1x2x8",
        "1x1x1x8",
    )
    net = make_net(case)
    net.blobs["bottom2"].data[0] = [[0, 0, 0.5, 1, 0.6, 0.6, 1, 1], [0.1] * 8]
    net.blobs["bottom3"].data[...] = [0, 1, 0, 0, 0, 0.5, 0.5, 0]
    net.blobs["bottom0"].data[...] = 0
    net.blobs["bottom1"].data[...] = [[1, 3, 2, 2]]
    found = float(net.forward()["top0"])
    location = 5 - 0.5  # ymax is 0.5 instead of 1: a code of -5
    positive, negative = math.log(1 + math.exp(-2)), math.log(2)
    assert found == pytest.approx(location + positive + negative, rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["bottom0"].diff[0], [0, 0, 0, 1, 0, 0, 0, 0], atol=1e-6)
    p = 1 / (1 + math.exp(2))
    np.testing.assert_allclose(net.blobs["bottom1"].diff[0], [p, -p, -0.5, 0.5], rtol=1e-5)
