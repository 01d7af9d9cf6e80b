"""Mean average precision: DetectionEvaluate, what a test makes of it, and where it is reported."""

import logging

import numpy as np
import pytest

import caffe
from caffe_plain.average_precision import VERSIONS, average_precision
from caffe_plain.means import mean_outputs
from test_catalogue_definitions import make_net
from test_multibox import jaccard

RANDOM = np.random.RandomState(3)
IMAGES, CLASSES = 6, 4


# ---- the area -----------------------------------------------------------------------------------


def area_by_thresholds(scores, right, objects, version):
    """From precision and recall at each score as threshold, all scores being different."""
    points = []
    for threshold in sorted(scores, reverse=True):
        chosen = right[scores >= threshold]
        points.append((chosen.sum() / objects, chosen.mean()))
    if version == "11point":
        best = [max([p for r, p in points if r >= t / 10 - 1e-12], default=0) for t in range(11)]
        return np.mean(best)
    total, before = 0, 0
    for i, (recall, precision) in enumerate(points):
        if version == "MaxIntegral":
            precision = max(p for _, p in points[i:])
        total += (recall - before) * precision
        before = recall
    return total


@pytest.mark.parametrize("version", VERSIONS)
def test_average_precision_is_the_area_by_thresholds(version):
    for _ in range(20):
        scores, right = RANDOM.permutation(15) / 15, RANDOM.randint(0, 2, 15)
        objects = right.sum() + RANDOM.randint(1, 5)
        found = average_precision(scores, right, objects, version)
        assert found == pytest.approx(area_by_thresholds(scores, right, objects, version))


def test_average_precision_by_hand():
    """Right, wrong, right, of 2 objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    found = [
        average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), 2, version)
        for version in VERSIONS
    ]
    expected = [1 / 2 + 1 / 2 * 2 / 3, 1 / 2 + 1 / 2 * 2 / 3, (6 * 1 + 5 * 2 / 3) / 11]
    assert found == pytest.approx(expected)
    assert average_precision(np.empty(0), np.empty(0), 3) == 0
    assert average_precision(np.ones(2), np.zeros(2), 0) == 0


# ---- the layer ----------------------------------------------------------------------------------


def boxes(count):
    center, half = RANDOM.uniform(0.2, 0.8, (count, 2)), RANDOM.uniform(0.1, 0.2, (count, 2))
    return np.hstack([center - half, center + half])


def drawn():
    """Detections (1, 1, 40, 7), most of them objects that are moved a little, and objects."""
    index, labels = np.sort(RANDOM.randint(0, IMAGES, 20)), RANDOM.randint(1, CLASSES, 20)
    truth = np.column_stack([index, labels, 0 * index, boxes(20), RANDOM.randint(0, 2, 20)])
    moved = truth[RANDOM.randint(0, 20, 40)]
    places = moved[:, 3:7] + RANDOM.normal(0, 0.04, (40, 4))
    scores = RANDOM.permutation(40) / 40
    found = np.column_stack([moved[:, 0], RANDOM.choice([1, 2, 3, 0], 40), scores, places])
    found[found[:, 1] == 0, 1] = moved[found[:, 1] == 0, 1]
    found = found[np.argsort(found[:, 0], kind="stable")]
    return found[None, None], truth[None, None]


def judged(found, truth, threshold, difficult_counts, overlap=jaccard):
    """{(image, label, score): (right, wrong)} and {label: objects}, one detection at a time."""
    taken, answer = set(), {}
    for row in sorted(found[0, 0].tolist(), key=lambda r: -r[2]):
        mine = [
            (overlap(row[3:], t[3:7]), -g, t[7])
            for g, t in enumerate(truth[0, 0].tolist())
            if t[0] == row[0] and t[1] == row[1]
        ]
        shared, g, difficult = max(mine, default=(0, 1, 0))
        key = (int(row[0]), int(row[1]), round(row[2], 4))
        if shared < threshold:
            answer[key] = (0, 1)
        elif difficult and not difficult_counts:
            answer[key] = (0, 0)
        else:
            answer[key] = (0, 1) if g in taken else (1, 0)
            taken.add(g)
    rows = truth[0, 0]
    counted = rows[(rows[:, 7] == 0) | difficult_counts]
    return answer, {c: int((counted[:, 1] == c).sum()) for c in range(1, CLASSES)}


def layer(options="", *shapes):
    return make_net(
        f'type: "DetectionEvaluate" top: "y" detection_evaluate_param {{ num_classes: {CLASSES} '
        f"{options} }}",
        *(shapes or ((1, 1, 40, 7), (1, 1, 20, 8))),
        phase=caffe.TEST,
    )


@pytest.mark.parametrize("difficult", [True, False])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_each_detection_is_judged_as_by_hand(threshold, difficult):
    net = layer(
        f"overlap_threshold: {threshold} evaluate_difficult_gt: {'true' if difficult else 'false'}"
    )
    for _ in range(5):
        found, truth = drawn()
        rows = net.forward(a=found, b=truth)["y"]
        assert rows.shape == (1, 1, CLASSES - 1 + 40, 5)
        expected, counts = judged(found, truth, threshold, difficult)
        rows = rows[0, 0].tolist()
        assert {int(r[1]): int(r[2]) for r in rows if r[0] == -1} == counts
        answer = {(int(r[0]), int(r[1]), round(r[2], 4)): tuple(r[3:]) for r in rows if r[0] >= 0}
        assert answer == expected


def test_without_detections_or_objects():
    net = layer("", (1, 1, 2, 7), (1, 1, 1, 8))
    nothing = [[0] + [-1] * 6, [1] + [-1] * 6]
    rows = net.forward(a=np.array(nothing)[None, None], b=np.full((1, 1, 1, 8), -1))["y"][0, 0]
    np.testing.assert_array_equal(rows, [[-1, c, 0, -1, -1] for c in (1, 2, 3)])
    wrong = np.array([[0, 2, 0.5, 0, 0, 1, 1], nothing[1]])[None, None]
    rows = net.forward(a=wrong, b=np.full((1, 1, 1, 8), -1))["y"][0, 0]
    np.testing.assert_array_equal(rows[3:], [[0, 2, 0.5, 0, 1]])


def test_boxes_are_compared_in_pixels_of_the_images(tmp_path):
    """Of one pixel, both ends of which count, an overlap is more than in parts of the image."""
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("a 10 20\nb c 10 10\n")

    def pixels(size):
        def overlap(a, b):
            a, b = (np.multiply(np.clip(x, 0, 1), [size[1], size[0]] * 2) for x in (a, b))
            return jaccard([*a[:2], *(a[2:] + 1)], [*b[:2], *(b[2:] + 1)])

        return overlap

    net = layer(f"name_size_file: '{sizes}'", (1, 1, 1, 7), (1, 1, 1, 8))
    a, b = boxes(2)
    for size in ((10, 20), (10, 10), (10, 20)):  # one image a batch
        shared = pixels(size)(a, b)
        rows = []
        for threshold in (shared - 1e-3, shared + 1e-3):
            net.layers[-1].options.overlap_threshold = threshold
            net.layers[-1].image -= rows != []  # the same image once more
            rows.append(
                net.forward(
                    a=np.array([0, 1, 0.5, *a])[None, None, None],
                    b=np.array([0, 1, 0, *b, 0])[None, None, None],
                )["y"][0, 0, -1].tolist()
            )
        assert [row[3:] for row in rows] == [[1, 0], [0, 1]]


def test_a_batch_that_ends_with_nothing_moves_the_sizes_as_far(tmp_path):
    """Batches of two images; the second's last has neither objects nor detections."""
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("".join(f"{name} 10 10\n" for name in "abcd"))
    net = layer(f"name_size_file: '{sizes}'", (1, 1, 1, 7), (1, 1, 1, 8))
    places = []
    for images in (2, 1, 2):
        places.append(net.layers[-1].image)
        box = [0.1, 0.1, 0.5, 0.5]
        found = np.array([[k, 1, 0.5, *box] for k in range(images)])[None, None]
        truth = np.array([[k, 1, 0, *box, 0] for k in range(images)])[None, None]
        net.blobs["a"].reshape(*found.shape), net.blobs["b"].reshape(*truth.shape)
        net.forward(a=found, b=truth)
    assert places == [0, 2, 0]


@pytest.mark.parametrize(
    "options, pattern",
    [
        ("overlap_threshold: 0", "overlap_threshold must be positive"),
        ("name_size_file: 'no'", "name_size_file no: No such file"),
        ("resize_param { resize_mode: WARP }", "resize_param must be positive"),
        ("use_polygon: true", "use_polygon changes .*TextBoxes"),
    ],
)
def test_bad_options_are_refused(options, pattern):
    with pytest.raises(caffe.CaffeError, match=f"layer 'y'.*{pattern}"):
        layer(options)


# ---- a test of a net ----------------------------------------------------------------------------


def filler_net(found, truth):
    """A test net whose detections and objects are its parameters."""
    shapes = [("d", found.shape), ("t", truth.shape)]
    layers = "".join(
        f'layer {{ name: "{name}" type: "Parameter" top: "{name}" parameter_param {{ shape {{ '
        + " ".join(f"dim: {n}" for n in shape)
        + " } } }"
        for name, shape in shapes
    )
    return layers + (
        'layer { name: "e" type: "DetectionEvaluate" bottom: "d" bottom: "t" top: "map" '
        f"detection_evaluate_param {{ num_classes: {CLASSES} }} include {{ phase: TEST }} }}"
    )


@pytest.fixture
def trained(tmp_path, caplog):
    """(a solver with such a net, detections, objects)."""
    found, truth = drawn()
    (tmp_path / "net.prototxt").write_text(filler_net(found, truth))
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" test_iter: 2 test_interval: 1 '
        f'snapshot_prefix: "{tmp_path}/s" eval_type: "detection" ap_version: "11point" '
        "show_per_class_result: true"
    )
    caplog.set_level(logging.INFO, "caffe")
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    for net in (solver.net, solver.test_nets[0]):
        net.params["d"][0].data[...], net.params["t"][0].data[...] = found, truth
    return solver, found, truth


def expected_precisions(found, truth, version, batches=2):
    answer, counts = judged(found, truth, 0.5, True)
    rows = {c: [(s, r) for (_, label, s), (r, _) in answer.items() if label == c] for c in counts}
    return {
        c: average_precision(*np.tile(np.array(rows[c]).T, batches), batches * counts[c], version)
        for c in counts
    }


def test_a_solver_reports_mean_average_precision(trained, caplog):
    solver, found, truth = trained
    by_class = expected_precisions(found, truth, "11point")
    tested = solver.test()
    assert tested["map"] == pytest.approx(np.mean(list(by_class.values())), rel=1e-6)
    lines = [record.getMessage() for record in caplog.records]
    assert f"    Test net output #0: map = {float(tested['map']):.6g}" in lines
    for label, precision in by_class.items():
        assert f"class{label}: {precision:.6g}" in lines


def test_the_precision_is_over_all_batches_not_their_mean(trained):
    solver, found, truth = trained
    net = solver.test_nets[0]
    worse = found.copy()
    worse[0, 0, :, 3:] += 0.5

    def forget(batch):
        net.params["d"][0].data[...] = worse

    _, means = mean_outputs(net, 2, observe=forget)
    first, second = judged(found, truth, 0.5, True), judged(worse, truth, 0.5, True)
    precisions = []
    for label, count in first[1].items():
        rows = [
            (s, r)
            for answer, _ in (first, second)
            for (_, c, s), (r, _) in answer.items()
            if c == label
        ]
        precisions.append(average_precision(*np.array(rows).T, 2 * count))
    assert means["map"] == pytest.approx(np.mean(precisions), rel=1e-6)


@pytest.mark.parametrize(
    "settings, pattern",
    [
        ('eval_type: "segmentation"', "eval_type must be classification or detection"),
        ('ap_version: "12point"', "ap_version must be one of Integral, MaxIntegral, 11point"),
        ('eval_type: "detection"', "no test net has a DetectionEvaluate"),
    ],
)
def test_what_a_solver_cannot_report_is_refused(tmp_path, settings, pattern):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    )
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" test_iter: 1 test_interval: 1 '
        f'snapshot_prefix: "{tmp_path}/s" {settings}'
    )
    with pytest.raises(caffe.CaffeError, match=pattern):
        caffe.get_solver(str(tmp_path / "solver.prototxt"))
