"""Layers of forks that OpenCV does not have, or only in part: against their definition in numpy."""

import itertools
import math

import numpy as np
import pytest

import caffe
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2

RANDOM = np.random.RandomState(3)


@pytest.fixture(autouse=True)
def seed():
    """The same numbers for a test, whichever ran before it."""
    RANDOM.seed(3)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def run(type, options, *inputs, tops=1, params=(), phase=caffe.TEST):
    """The tops of one layer, and the net."""
    text = ""
    for i, x in enumerate(inputs):
        dims = " ".join(f"dim: {size}" for size in x.shape)
        text += f'layer {{ name: "in{i}" type: "Input" top: "in{i}" '
        text += f"input_param {{ shape {{ {dims} }} }} }}\n"
    bottoms = " ".join(f'bottom: "in{i}"' for i in range(len(inputs)))
    names = " ".join(f'top: "top{i}"' for i in range(tops))
    text += f'layer {{ name: "layer" type: "{type}" {bottoms} {names} {options} }}\n'
    net = caffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase)
    for i, x in enumerate(inputs):
        net.blobs[f"in{i}"].data[...] = x
    for blob, values in zip(net.params.get("layer", []), params, strict=False):
        blob.data.flat = values
    net.forward()
    found = [net.blobs[f"top{i}"].data.copy() for i in range(tops)]
    return (found[0] if tops == 1 else found), net


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_axpy():
    a, x, b = normal(2, 3, 1, 1), normal(2, 3, 4, 5), normal(2, 3, 4, 5)
    same(run("Axpy", "", a, x, b)[0], a * x + b)


def test_depthwise_convolutions_are_convolutions_with_groups():
    x, weights, bias = normal(2, 3, 6, 5), normal(3, 1, 3, 3), normal(3)
    options = "convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 group: 3 }"
    expected = run("Convolution", options, x, params=[weights.flat, bias])[0]
    for type in ("DepthwiseConvolution", "ConvolutionDepthwise"):
        same(run(type, options, x, params=[weights.flat, bias])[0], expected)


def test_relu6_with_a_slope():
    x = 10 * normal(3, 4)
    found = run("ReLU6", "relu6_param { negative_slope: 0.1 }", x)[0]
    same(found, np.clip(x, 0, 6) + 0.1 * np.minimum(x, 0))


def test_normalize_of_caffe_windows_has_no_scale():
    x = normal(2, 3, 4, 5)
    found, net = run("Normalize", "normalize_param { normalize_type: 'L1' }", x)
    same(found, x / np.abs(x).sum(1, keepdims=True))
    assert "layer" not in net.params
    rows = normal(4, 6)
    found, net = run("Normalize", "", rows)
    same(found, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert "layer" not in net.params


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize("frozen", [False, True])
def test_bn_of_pspnet(phase, frozen):
    x, slope, bias, mean = normal(2, 3, 4, 5), normal(3), normal(3), normal(3)
    variance = RANDOM.uniform(0.5, 2, 3)
    options = f"bn_param {{ momentum: 0.9 eps: 0.001 frozen: {str(frozen).lower()} }}"
    found, net = run("BN", options, x, params=[slope, bias, mean, variance], phase=phase)
    of_batch = phase == caffe.TRAIN and not frozen
    m, v = (x.mean((0, 2, 3)), x.var((0, 2, 3))) if of_batch else (mean, variance)
    slope, bias, m, v = (value.reshape(1, 3, 1, 1) for value in (slope, bias, m, v))
    same(found, slope * (x - m) / np.sqrt(v + 0.001) + bias)
    stored = [blob.data.ravel() for blob in net.params["layer"][2:]]
    for now, before, batch in zip(stored, (mean, variance), (m, v), strict=True):
        same(now, 0.9 * before + 0.1 * batch.ravel() if of_batch else before)
    assert [blob.data.shape for blob in net.params["layer"]] == [(1, 3, 1, 1)] * 4


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize("mode", ["LEARN", "INFERENCE"])
def test_bn_of_segnet(phase, mode):
    x, scale, shift = normal(2, 3, 4, 5), normal(3), normal(3)
    found, net = run("BN", f"bn_param {{ bn_mode: {mode} }}", x, params=[scale, shift], phase=phase)
    unit = x
    if mode == "LEARN":
        unit = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    same(found, scale.reshape(3, 1, 1) * unit + shift.reshape(3, 1, 1))
    assert len(net.params["layer"]) == 2


def test_bn_is_told_by_its_blobs():
    """Where bn_param says nothing: 4 `param`s are PSPNet's; without them it is refused."""
    x = normal(2, 3, 4, 5)
    _, net = run("BN", "param { } " * 4, x)
    assert len(net.params["layer"]) == 4
    with pytest.raises(caffe.LayerError, match="no field of either"):
        run("BN", "param { } param { }", x)


def test_what_is_frozen_or_a_statistic_does_not_learn():
    rates = {}
    for options in ("momentum: 0.9", "frozen: true", "bn_mode: LEARN"):
        _, net = run("BN", f"bn_param {{ {options} }}", normal(2, 3, 4, 5), phase=caffe.TRAIN)
        rates[options] = [param.lr_mult for param in net.learnable]
    assert list(rates.values()) == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1]]


def test_batch_norm_with_the_scale_of_nvcaffe():
    x, mean, scale, bias = normal(2, 3, 4, 5), normal(3), normal(3), normal(3)
    variance = RANDOM.uniform(0.5, 2, 3)
    options = "batch_norm_param { scale_bias: true eps: 0.01 }"
    params = [2 * mean, 2 * variance, [2], scale, bias]
    found, net = run("BatchNorm", options, x, params=params)
    mean, variance, scale, bias = (v.reshape(3, 1, 1) for v in (mean, variance, scale, bias))
    same(found, scale * (x - mean) / np.sqrt(variance + 0.01) + bias)
    train = run("BatchNorm", options, x, params=params, phase=caffe.TRAIN)[1]
    assert [param.lr_mult for param in train.learnable] == [0, 0, 0, 1, 1]


def test_dropout_of_forks():
    x = normal(1000)[None] ** 2
    train = run("Dropout", "dropout_param { scale_train: false }", x, phase=caffe.TRAIN)[0]
    kept = train != 0
    assert 300 < kept.sum() < 700
    same(train[kept], x[kept])
    same(run("Dropout", "dropout_param { scale_train: false dropout_ratio: 0.3 }", x)[0], 0.7 * x)
    bayesian = run("Dropout", "dropout_param { sample_weights_test: true }", x)[0]
    kept = bayesian != 0
    assert 300 < kept.sum() < 700
    same(bayesian[kept], 2 * x[kept])


def test_segnets_upsample_undoes_its_pooling():
    x = normal(2, 3, 5, 4)
    text = """layer { name: "x" type: "Input" top: "x" input_param {
        shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
      layer { name: "pool" type: "Pooling" bottom: "x" top: "y" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 } }
      layer { name: "up" type: "Upsample" bottom: "y" bottom: "mask" top: "z"
        upsample_param { scale: 2 pad_out_h: true } }"""
    net = caffe.Net(parse_text(text, caffe_pb2.NetParameter()), caffe.TEST)
    net.blobs["x"].data[...] = x
    net.forward()
    expected = np.zeros_like(x)
    for n, c, i, j in itertools.product(range(2), range(3), (0, 2, 4), (0, 2)):
        window = x[n, c, i : i + 2, j : j + 2]
        at = np.unravel_index(window.argmax(), window.shape)
        expected[n, c, i + at[0], j + at[1]] = window.max()
    same(net.blobs["z"].data, expected)


def test_a_place_outside_the_upsampled_image_is_refused():
    with pytest.raises(
        caffe.LayerError, match="mask names places 0 to 99; a top of .* has 0 to 35"
    ):
        mask = np.zeros((1, 1, 3, 3))
        mask[0, 0, 0, 0] = 99
        run("Upsample", "upsample_param { scale: 2 }", normal(1, 1, 3, 3), mask)


def test_yolos_upsample_repeats_pixels():
    x = normal(2, 3, 4, 5)
    expected = x.repeat(3, 2).repeat(3, 3)
    same(run("Upsample", "upsample_param { scale: 3 }", x)[0], expected)
    same(run("Upsample", "", x)[0], x)


def test_interp_shrinks_zooms_and_cuts():
    """Shrinking and zooming at once only compute a size, to which the image is resized once."""
    x = normal(1, 2, 9, 7)
    same(run("Interp", "interp_param { shrink_factor: 2 }", x)[0], x[:, :, ::2, ::2])
    zoomed = run("Interp", "interp_param { zoom_factor: 2 }", x)[0]
    assert zoomed.shape == (1, 2, 17, 13)
    same(zoomed[:, :, ::2, ::2], x)
    same(zoomed[:, :, 1::2, ::2], (x[:, :, :-1] + x[:, :, 1:]) / 2)
    same(run("Interp", "interp_param { shrink_factor: 2 zoom_factor: 4 }", x)[0], zoomed)
    cut = run("Interp", "interp_param { zoom_factor: 1 pad_beg: -1 pad_end: -2 }", x)[0]
    same(cut, x[:, :, 1:-2, 1:-2])


def sample(image, y, x):
    """Bilinear; 0 more than a pixel outside."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    down, right = y - top, x - left
    a, b = image[top, left : left + 2], image[top + 1, left : left + 2]
    return float((1 - down) * (a[0] * (1 - right) + a[1] * right)) + float(
        down * (b[0] * (1 - right) + b[1] * right)
    )


@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align(ratio):
    x = normal(2, 2, 6, 7)
    rois = np.array([[0, 4, 4, 40, 50], [1, -30, 8, 30, 9], [1, 2, 2, 3, 3], [0, 0, 0, 99, 99]])
    size = "pooled_h: 3 pooled_w: 2 spatial_scale: 0.125"
    options = f"roi_align_param {{ {size} sampling_ratio: {ratio} }}"
    found = run("ROIAlign", options, x, rois)[0]
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = np.array(corners) / 8
        height, width = max(y2 - y1, 1), max(x2 - x1, 1)
        rows, columns = (ratio or math.ceil(height / 3)), (ratio or math.ceil(width / 2))
        for c, i, j in itertools.product(range(2), range(3), range(2)):
            values = [
                sample(
                    x[image, c],
                    y1 + (i + (a + 0.5) / rows) * height / 3,
                    x1 + (j + (b + 0.5) / columns) * width / 2,
                )
                for a in range(rows)
                for b in range(columns)
            ]
            assert found[r, c, i, j] == pytest.approx(np.mean(values), abs=1e-5)


def test_regions_of_an_image_that_is_not_there_are_refused():
    with pytest.raises(caffe.LayerError, match="regions of images 0 to 2; bottom 0 holds 2"):
        rois = np.array([[0, 1, 1, 2, 2], [2, 1, 1, 2, 2]])
        run("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", normal(2, 1, 4, 4), rois)


REGIONS = {
    "ROIPooling": "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
    "ROIAlign": "roi_align_param { pooled_h: 2 pooled_w: 2 }",
    "PSROIPooling": "psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 1 }",
}


@pytest.mark.parametrize("type", REGIONS)
def test_no_regions_give_no_values(type):
    x = normal(2, 4, 6, 6)
    found = run(type, REGIONS[type], x, np.zeros((0, 5)))[0]
    assert found.shape == (0, 1 if type == "PSROIPooling" else 4, 2, 2)
    assert run(type, REGIONS[type], x, np.zeros((3, 5, 1, 1)))[0].shape[0] == 3


def test_boxes_grow_without_bound():
    """Codes of nets that have not learned, or diverge: e^3000 is no warning."""
    options = "detection_output_param { num_classes: 2 code_type: CENTER_SIZE }"
    codes, priors = np.full((1, 8), 3e4), np.linspace(0.1, 0.9, 16).reshape(1, 2, 8)
    found = run("DetectionOutput", options, codes, normal(1, 4), priors)[0]
    assert found.shape[3] == 7 and not np.isnan(found).any()
    options = "proposal_param { ratio: 1 scale: 2 }"
    rois = run("Proposal", options, normal(1, 2, 3, 3), np.full((1, 4, 3, 3), 3e4), np.ones((1, 3)))
    assert np.isfinite(rois[0]).all()


def darknets_reorg(x, stride, forward):
    """The loops of Darknet's reorg_cpu."""
    batch, c, h, w = x.shape
    flat, out, few = x.ravel(), np.zeros(x.size, x.dtype), c // stride**2
    for b, k, j, i in itertools.product(range(batch), range(c), range(h), range(w)):
        here = i + w * (j + h * (k + c * b))
        c2, offset = k % few, k // few
        w2, h2 = i * stride + offset % stride, j * stride + offset // stride
        there = w2 + w * stride * (h2 + h * stride * (c2 + few * b))
        if forward:
            out[there] = flat[here]
        else:
            out[here] = flat[there]
    return out


@pytest.mark.parametrize("reverse", [False, True])
def test_reorg_is_darknets(reverse):
    x = normal(2, 8, 4, 6)
    found = run("Reorg", f"reorg_param {{ stride: 2 reverse: {str(reverse).lower()} }}", x)[0]
    assert found.shape == ((2, 2, 8, 12) if reverse else (2, 32, 2, 3))
    same(found.ravel(), darknets_reorg(x, 2, reverse))


@pytest.mark.parametrize("kernel, s1, s2", [(1, 1, 1), (3, 2, 2)])
def test_correlation_of_differences(kernel, s1, s2):
    a, b, pad, reach = normal(1, 2, 7, 6), normal(1, 2, 7, 6), 3, 2
    options = (
        f"correlation_param {{ pad: {pad} kernel_size: {kernel} max_displacement: {reach} "
        f"stride_1: {s1} stride_2: {s2} correlation_type: SUBTRACT }}"
    )
    found = run("Correlation", options, a, b)[0][0]
    a, b = (np.pad(x[0], ((0, 0), (pad, pad), (pad, pad))) for x in (a, b))
    moves = range(-(reach // s2) * s2, reach + 1, s2)
    for channel, (down, right) in enumerate(itertools.product(moves, moves)):
        for i, j in np.ndindex(found.shape[1:]):
            y, x = i * s1 + reach, j * s1 + reach
            one = a[:, y : y + kernel, x : x + kernel]
            other = b[:, y + down : y + down + kernel, x + right : x + right + kernel]
            assert found[channel, i, j] == pytest.approx(np.abs(one - other).mean(), abs=1e-5)


def test_what_changes_no_correlation_in_flownet2_is_said_to():
    options, maps = "kernel_size: 1 max_displacement: 1", [normal(1, 2, 4, 4) for _ in range(2)]
    with pytest.warns(UserWarning, match="do_abs change nothing, as in FlowNet2"):
        found = run("Correlation", f"correlation_param {{ {options} do_abs: true }}", *maps)[0]
    same(found, run("Correlation", f"correlation_param {{ {options} }}", *maps)[0])


def test_flow_warp_fills_what_comes_from_outside():
    flow = np.zeros((1, 2, 3, 4))
    flow[0, 0, 1, 2] = 9
    found = run(
        "FlowWarp", "flow_warp_param { fill_value: NOT_A_NUMBER }", normal(1, 2, 3, 4), flow
    )
    assert np.isnan(found[0][0, :, 1, 2]).all() and np.isnan(found[0]).sum() == 2


# ---- detections ------------------------------------------------------------------------------


def iou(a, b, pixel=0.0):
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    both = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0] + pixel) * (box[3] - box[1] + pixel) for box in (a, b))
    return both / (area - both)


def kept(boxes, threshold, eta=1.0, pixel=0.0, strict=False):
    """Greedy suppression, as the papers describe it."""
    found = []
    for index, box in enumerate(boxes):
        worst = max((iou(box, boxes[other], pixel) for other in found), default=-1)
        if worst < threshold or (worst == threshold and not strict):
            found.append(index)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return found


@pytest.mark.parametrize("eta", [1.0, 0.9])
@pytest.mark.parametrize("encoded", [False, True])
def test_detection_output(eta, encoded):
    count = 30
    priors = np.sort(RANDOM.uniform(0, 1, (count, 2, 2)), 1).reshape(count, 4)
    priors[:, 2:] += 0.05
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    codes, scores = RANDOM.normal(size=(1, count, 4)), RANDOM.uniform(size=(1, count, 3))
    text = (
        "detection_output_param { num_classes: 3 code_type: CORNER_SIZE nms_param { top_k: 20 "
        f"nms_threshold: 0.6 eta: {eta} }} confidence_threshold: 0.3 keep_top_k: 12 "
        f"variance_encoded_in_target: {str(encoded).lower()} }}"
    )
    stacked = np.stack([priors, variances]).reshape(1, 2, -1)
    inputs = (np.float32(x) for x in (codes.reshape(1, -1) / 9, scores.reshape(1, -1), stacked))
    found = run("DetectionOutput", text, *inputs)[0][0, 0]
    size = np.tile(priors[:, 2:] - priors[:, :2], 2)
    boxes = priors + codes[0] / 9 * (1 if encoded else variances) * size
    rows = []
    for label in (1, 2):
        order = [i for i in np.argsort(-scores[0, :, label])[:20] if scores[0, i, label] > 0.3]
        for index in kept(boxes[order], 0.6, eta):
            i = order[index]
            rows.append([0, label, scores[0, i, label], *boxes[i]])
    best = sorted(rows, key=lambda row: -row[2])[:12]
    same(found, [row for row in rows if row in best])


def center_size(priors, codes, variances):
    size = priors[:, 2:] - priors[:, :2]
    codes = codes * variances
    center, half = priors[:, :2] + size / 2 + codes[:, :2] * size, np.exp(codes[:, 2:]) * size / 2
    return np.hstack([center - half, center + half])


def test_detections_of_refinedet():
    """Prior boxes are moved by bottom 4 first; what bottom 3 takes for no object is none."""
    count = 30
    priors = np.sort(RANDOM.uniform(0, 1, (count, 2, 2)), 1).reshape(count, 4)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    codes, moves = RANDOM.normal(size=(2, count, 4))
    scores, objects = RANDOM.uniform(size=(count, 2)), RANDOM.uniform(size=(count, 2))
    text = (
        "detection_output_param { num_classes: 2 code_type: CENTER_SIZE objectness_score: 0.5 "
        "confidence_threshold: 0.2 nms_param { nms_threshold: 1 } }"
    )
    stacked = np.stack([priors, variances]).reshape(1, 2, -1)
    inputs = [x.reshape(1, -1) for x in (codes, scores, objects, moves)]
    found = run("DetectionOutput", text, *inputs[:2], stacked, *inputs[2:])[0][0, 0]
    boxes = center_size(center_size(priors, moves, variances), codes, variances)
    stays = [i for i in np.argsort(-scores[:, 1]) if objects[i, 1] >= 0.5 and scores[i, 1] > 0.2]
    assert 2 < len(stays) < count
    same(found, [[0, 1, scores[i, 1], *boxes[i]] for i in stays])


def test_the_corners_of_words_that_textboxes_finds():
    count = 20
    priors = np.sort(RANDOM.uniform(0, 1, (count, 2, 2)), 1).reshape(count, 4)
    variances = np.tile([0.1, 0.15, 0.2, 0.2], (count, 1))
    codes, scores = RANDOM.normal(size=(count, 12)), RANDOM.uniform(size=(count, 2))
    text = (
        "detection_output_param { num_classes: 2 code_type: CENTER_SIZE use_polygon: true "
        "confidence_threshold: 0.4 nms_param { nms_threshold: 0.6 } keep_top_k: 6 }"
    )
    stacked = np.stack([priors, variances]).reshape(1, 2, -1)
    found = run("DetectionOutput", text, codes.reshape(1, -1), scores.reshape(1, -1), stacked)[0]
    boxes, expected = center_size(priors, codes[:, :4], variances), []
    order = [i for i in np.argsort(-scores[:, 1]) if scores[i, 1] > 0.4]
    for i in [order[index] for index in kept(boxes[order], 0.6)][:6]:
        (left, top, right, bottom), corners = priors[i], []
        for k, (x, y) in enumerate([(left, top), (right, top), (right, bottom), (left, bottom)]):
            corners.append(x + 0.1 * codes[i, 4 + 2 * k] * (right - left))
            corners.append(y + 0.15 * codes[i, 5 + 2 * k] * (bottom - top))
        expected.append([0, 1, scores[i, 1], *boxes[i], *corners])
    same(found[0, 0], expected)


def test_the_prior_boxes_of_textboxes_stand_twice_in_each_pixel():
    options = "prior_box_param { min_size: 4 aspect_ratio: 4 flip: false step: 8 %s }"
    found = run(
        "PriorBox", options % "denser_prior_boxes: true", normal(1, 1, 2, 3), normal(1, 3, 16, 24)
    )
    boxes = found[0][0, 0].reshape(6, 2, 2, 4)  # pixels, sizes, twice
    same(
        boxes[:, :, 0].ravel(),
        run("PriorBox", options % "", normal(1, 1, 2, 3), normal(1, 3, 16, 24))[0][0, 0],
    )
    same(boxes[:, :, 1] - boxes[:, :, 0], np.tile([0, 0.25, 0, 0.25], (6, 2, 1)))  # 4 of 16 rows


def test_the_image_that_ssds_demos_draw_into_changes_nothing():
    inputs = [normal(1, 40), normal(1, 20), normal(1, 2, 40)]
    text = "detection_output_param { num_classes: 2 visualize: %s }"
    expected = run("DetectionOutput", text % "false", *inputs)[0]
    with pytest.warns(UserWarning, match="visualize have no effect"):
        found = run("DetectionOutput", text % "true", *inputs, normal(1, 3, 8, 9))[0]
    same(found, expected)


def test_no_detection_is_a_row_for_each_image():
    text = "detection_output_param { num_classes: 2 confidence_threshold: 2 }"
    found = run("DetectionOutput", text, normal(2, 8), normal(2, 4), normal(1, 2, 8))[0]
    assert found.tolist() == [[[[0, *[-1] * 6], [1, *[-1] * 6]]]]


def test_prior_boxes_of_one_pixel_by_hand():
    """min 4, max 9 in an image 10 x 20: 4 x 4, 6 x 6, and for 2: 4 sqrt(2) x 4 / sqrt(2)."""
    options = "prior_box_param { min_size: 4.9 max_size: 9 aspect_ratio: 2 aspect_ratio: 1 }"
    found = run("PriorBox", options, normal(1, 1, 1, 1), normal(1, 3, 20, 10))[0]
    assert found.shape == (1, 2, 16)
    sizes = [(4, 4), (6, 6), (4 * 2**0.5, 4 / 2**0.5), (4 / 2**0.5, 4 * 2**0.5)]
    boxes = [[5 - w / 2, 10 - h / 2, 5 + w / 2, 10 + h / 2] for w, h in sizes]
    same(found[0, 0].reshape(4, 4), np.array(boxes) / [10, 20, 10, 20])
    same(found[0, 1], np.full(16, 0.1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def yolo_rows(candidates, confidence, nms):
    candidates = sorted((c for c in candidates if c[0] >= confidence), key=lambda c: -c[0])
    boxes = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for _, _, x, y, w, h in candidates]
    return [
        [0, candidates[i][1] + 1, candidates[i][0], *boxes[i]]
        for i in kept(boxes, nms, strict=True)
    ]


def yolo_candidates(x, anchors, score):
    anchors_count, height, width = len(anchors), *x.shape[1:]
    x = x.reshape(anchors_count, -1, height, width)
    for a, j, i in itertools.product(range(anchors_count), range(height), range(width)):
        v = x[a, :, j, i]
        label, best = score(v[5:])
        yield (
            best * sigmoid(v[4]),
            label,
            (i + sigmoid(v[0])) / width,
            (j + sigmoid(v[1])) / height,
            np.exp(v[2]) * anchors[a][0] / width,
            np.exp(v[3]) * anchors[a][1] / height,
        )


def test_the_output_of_yolo_2():
    def softmax(v):
        p = np.exp(v) / np.exp(v).sum()
        return p.argmax(), p.max()

    x = normal(1, 16, 3, 4)
    options = (
        "yolo_detection_output_param { num_classes: 3 num_box: 2 biases: 1 biases: 2 biases: 2 "
        "biases: 1.5 confidence_threshold: 0.2 nms_threshold: 0.3 }"
    )
    found = run("YoloDetectionOutput", options, x)[0][0, 0]
    expected = yolo_rows(yolo_candidates(x[0], [(1, 2), (2, 1.5)], softmax), 0.2, 0.3)
    assert 3 < len(expected) < 20
    same(found, expected)


def test_a_score_at_the_threshold_counts_for_yolo_2_only():
    """All values 0: the object's sigmoid is 1/2, of one class its softmax 1, its sigmoid 1/2."""
    x = np.zeros((1, 6, 1, 1), np.float32)
    old = "yolo_detection_output_param { num_classes: 1 num_box: 1 biases: 1 biases: 1 "
    found = run("YoloDetectionOutput", old + "confidence_threshold: 0.5 }", x)[0]
    same(found.ravel(), [0, 1, 0.5, 0, 0, 1, 1])
    new = (
        "yolov3_detection_output_param { num_classes: 1 num_box: 1 biases: 1 biases: 1 mask: 0 "
        "anchors_scale: 1 confidence_threshold: %s }"
    )
    same(run("Yolov3DetectionOutput", new % 0.25, x)[0].ravel(), [0, *[-1] * 6])
    same(run("Yolov3DetectionOutput", new % 0.24, x)[0].ravel(), [0, 1, 0.25, 0, 0, 1, 1])


def test_the_output_of_yolo_3():
    maps = [normal(1, 7, 3, 4), normal(1, 7, 6, 8)]
    options = (
        "yolov3_detection_output_param { num_classes: 2 num_box: 1 biases: 40 biases: 20 "
        "biases: 70 biases: 90 mask: 1 mask: 0 anchors_scale: 32 anchors_scale: 16 "
        "confidence_threshold: 0.4 }"
    )
    found = run("Yolov3DetectionOutput", options, *maps)[0][0, 0]
    scored = lambda v: (v.argmax(), sigmoid(v.max()))  # noqa: E731
    candidates = [
        *yolo_candidates(maps[0][0], [(70 / 32, 90 / 32)], scored),
        *yolo_candidates(maps[1][0], [(40 / 16, 20 / 16)], scored),
    ]
    expected = yolo_rows(candidates, 0.4, 0.45)
    assert 3 < len(expected) < 40
    same(found, expected)


# ---- proposals -------------------------------------------------------------------------------


def test_the_anchors_of_faster_rcnn():
    """As the comments of py-faster-rcnn's generate_anchors.py print them, from 0 instead of 1."""
    from caffe.catalogue.forks.proposal import anchors

    found = anchors(16, (0.5, 1, 2), (8, 16, 32))
    assert found[[0, 3, 6, 8]].tolist() == [
        [-84, -40, 99, 55],
        [-56, -56, 71, 71],
        [-36, -80, 51, 95],
        [-168, -344, 183, 359],
    ]


PYTHON = """python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
  param_str: "'feat_stride': 16" }"""


def test_the_python_layer_of_faster_rcnn_runs_without_its_package():
    scores = RANDOM.permutation(18 * 20).reshape(1, 18, 4, 5) / 360
    codes, image = normal(1, 36, 4, 5) * 0.2, np.array([[64, 80, 1.0]])
    rois, net = run("Python", PYTHON, np.float32(scores), codes, image)
    from caffe.catalogue.forks.proposal import anchors

    base, candidates = anchors(16, (0.5, 1, 2), (8, 16, 32)), []
    for a, j, i in itertools.product(range(9), range(4), range(5)):
        x1, y1, x2, y2 = base[a] + 16 * np.array([i, j, i, j])
        w, h = x2 - x1 + 1, y2 - y1 + 1
        dx, dy, dw, dh = codes[0, 4 * a : 4 * a + 4, j, i]
        x, y, w, h = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h, w * np.exp(dw), h * np.exp(dh)
        box = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [79, 63, 79, 63])
        if box[2] - box[0] + 1 >= 16 and box[3] - box[1] + 1 >= 16:
            candidates.append((scores[0, 9 + a, j, i], box))
    boxes = [box for _, box in sorted(candidates, key=lambda c: -c[0])]
    expected = [[0, *boxes[i]] for i in kept(boxes, 0.7, pixel=1)]
    assert len(expected) > 5
    np.testing.assert_allclose(rois, expected, atol=1e-3)


@pytest.mark.parametrize(
    "param, stride, anchors",
    [
        ("'feat_stride': 16", 16, 9),
        ("{'feat_stride': 8, 'scales': [4, 8]}", 8, 6),
        ("'feat_stride': 16\\n'scales': !!python/tuple [4, 8, 16, 32]", 16, 12),
        ("feat_stride: 4\\nscales: (2,)", 4, 3),
        ("'feat_stride': 8\\n'scales': [2.0, 2.7]\\n'ratios': !!python/tuple [2.44]", 8, 2),
    ],
)
def test_the_options_of_the_python_layer(param, stride, anchors):
    options = PYTHON.replace("'feat_stride': 16", param)
    maps = normal(1, 2 * anchors, 4, 5), normal(1, 4 * anchors, 4, 5), np.array([[64, 80, 1.0]])
    layer = run("Python", options, *maps)[1].layers[-1]
    assert (layer.stride, len(layer.anchors)) == (stride, anchors)
    with pytest.raises(caffe.LayerError, match="expected .*'feat_stride': 16"):
        run("Python", PYTHON.replace("feat_stride", "stride"), *maps)


def test_a_missing_python_module_of_another_name_stays_an_error():
    other = PYTHON.replace("ProposalLayer", "AnotherLayer")
    with pytest.raises(caffe.LayerError, match="cannot import module 'rpn.proposal_layer'"):
        run("Python", other, normal(1, 18, 4, 5), normal(1, 36, 4, 5), normal(1, 3))
