"""Layers of forks with random legal parameters: this engine and OpenCV's dnn, on the same files.

Axpy is not here: OpenCV multiplies bottom 2 and adds bottom 1, SENet's fork the other way round.
Nor is DetectionOutput's eta, which OpenCV does not read.
"""

import cv2
import numpy as np
import pytest

import caffe

ROWS = 8  # of each type
DRAWERS = {}  # type: function(random) -> options, inputs


def drawer(function):
    DRAWERS[function.__name__] = function
    return function


def maps(random, batch=None, channels=None, least=3):
    """Values (N, C, H, W)."""
    shape = [batch or random.randint(1, 3), channels or random.randint(1, 5)]
    return random.normal(size=[*shape, *random.randint(least, 9, 2)])


def pick(random, *values):
    return values[random.randint(len(values))]


def chance(random, text):
    return text if random.randint(2) else ""


def rois(random, images, largest, count=6):
    corners = np.sort(random.uniform(0, largest, (count, 2, 2)), 1).reshape(-1, 4)
    return np.hstack([random.randint(0, images, (count, 1)), corners])


def boxes(random, count):
    return np.sort(random.uniform(0, 1, (count, 2, 2)), 1).reshape(-1, 4)


@drawer
def Permute(random):
    order = random.permutation(4)
    return f"permute_param {{ {' '.join(f'order: {axis}' for axis in order)} }}", [maps(random)]


@drawer
def ReLU6(random):
    return "", [10 * maps(random)]


@drawer
def ShuffleChannel(random):
    group = random.randint(1, 4)
    return (
        f"shuffle_channel_param {{ group: {group} }}",
        [maps(random, channels=group * random.randint(1, 4))],
    )


@drawer
def Normalize(random):
    across, shared = pick(random, ("true", "true"), ("false", "true"), ("false", "false"))
    return (
        f"norm_param {{ across_spatial: {across} channel_shared: {shared} "
        f"eps: {pick(random, 1e-10, 0.1)} "
        f"scale_filler {{ type: 'constant' value: {random.uniform(0.5, 20)} }} }}"
    ), [maps(random)]


@drawer
def PriorBox(random):
    count = random.randint(1, 3)
    low = sorted(random.randint(2, 20, count))
    high = chance(random, " ".join(f"max_size: {size + 5}" for size in low))
    ratios = " ".join(f"aspect_ratio: {ratio}" for ratio in random.choice([1, 2, 3, 1.5], 2))
    step = pick(random, "", "step: 8", "step_h: 6 step_w: 7.5")
    variance = pick(random, "variance: 0.1", "variance: 0.1 " * 2 + "variance: 0.2 " * 2)
    return (
        f"prior_box_param {{ {' '.join(f'min_size: {size}' for size in low)} {high} {ratios} "
        f"flip: {pick(random, 'true', 'false')} clip: {pick(random, 'true', 'false')} {step} "
        f"{variance} offset: {pick(random, 0.5, 0, 0.3)} }}"
    ), [maps(random), random.normal(size=(1, 3, 48, 61))]


@drawer
def DetectionOutput(random):
    classes, count, images = random.randint(2, 5), random.randint(5, 40), random.randint(1, 3)
    shared = random.randint(2)
    locations = 1 if shared else classes
    priors = boxes(random, count)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    scores = random.dirichlet(np.ones(classes), (images, count))
    return (
        f"detection_output_param {{ num_classes: {classes} share_location: {bool(shared)} "
        f"background_label_id: {random.randint(0, classes)} "
        f"code_type: {pick(random, 'CORNER', 'CENTER_SIZE')} "
        f"variance_encoded_in_target: false keep_top_k: {pick(random, 7, 20, 200)} "
        f"confidence_threshold: {pick(random, 0.01, 0.4)} nms_param {{ nms_threshold: "
        f"{random.uniform(0.1, 0.7)} top_k: {pick(random, 8, 400)} }} }}"
    ).replace("True", "true").replace("False", "false"), [
        random.normal(size=(images, count * 4 * locations)),
        scores.reshape(images, -1),
        np.stack([priors, variances]).reshape(1, 2, -1),
    ]


@drawer
def ROIPooling(random):
    x = maps(random)
    return (
        f"roi_pooling_param {{ pooled_h: {random.randint(1, 5)} pooled_w: {random.randint(1, 5)} "
        f"spatial_scale: {pick(random, 0.0625, 0.1, 0.25)} }}"
    ), [x, rois(random, len(x), 100)]


@drawer
def PSROIPooling(random):
    outputs, group = random.randint(1, 4), random.randint(1, 4)
    x = maps(random, channels=outputs * group**2)
    return (
        f"psroi_pooling_param {{ output_dim: {outputs} group_size: {group} spatial_scale: "
        f"{pick(random, 0.0625, 0.1, 0.25)} }}"
    ), [x, rois(random, len(x), 100)]


@drawer
def Proposal(random):
    ratios, scales = random.choice([0.5, 1, 2], 2, replace=False), random.choice([2, 3, 5], 2)
    height, width = random.randint(2, 7, 2)
    listed = [f"ratio: {r}" for r in ratios] + [f"scale: {s}" for s in scales]
    return (
        f"proposal_param {{ {' '.join(listed)} feat_stride: 16 base_size: 16 min_size: 1 "
        f"nms_thresh: {random.uniform(0.3, 0.8)} pre_nms_topn: {pick(random, 20, 6000)} "
        f"post_nms_topn: {random.randint(1, 6)} }}"
    ), [
        random.permutation(8 * height * width).reshape(1, 8, height, width) / (8 * height * width),
        random.normal(size=(1, 16, height, width)) * 0.3,
        np.array([[height * 16, width * 16, 1]]),
    ]


@drawer
def Interp(random):
    return pick(
        random,
        f"interp_param {{ zoom_factor: {random.randint(1, 5)} }}",
        f"interp_param {{ height: {random.randint(1, 20)} width: {random.randint(1, 20)} }}",
    ), [maps(random)]


@drawer
def Reorg(random):
    stride = 2  # the only one that OpenCV reads
    shape = np.array([1, stride**2 * random.randint(1, 4), *(stride * random.randint(1, 4, 2))])
    return f"reorg_param {{ stride: {stride} }}", [random.normal(size=shape)]


@drawer
def ConvolutionDepthwise(random):
    x = maps(random, least=4)
    return (
        f"convolution_param {{ num_output: {x.shape[1]} group: {x.shape[1]} kernel_size: "
        f"{random.randint(1, 4)} stride: {random.randint(1, 3)} bias_term: "
        f"{pick(random, 'true', 'false')} weight_filler {{ type: 'xavier' }} }}"
    ), [x]


@drawer
def Correlation(random):
    reach, kernel = random.randint(1, 4), pick(random, 1, 3)
    x = maps(random, least=6)
    return (
        f"correlation_param {{ pad: {reach + kernel // 2} kernel_size: {kernel} max_displacement: "
        f"{reach} stride_1: {random.randint(1, 3)} stride_2: {random.randint(1, 3)} }}"
    ), [x, random.normal(size=x.shape)]


@drawer
def FlowWarp(random):
    x = maps(random, channels=3)
    return "", [x, 3 * random.normal(size=(len(x), 2, *x.shape[2:]))]


@drawer
def Pooling(random):
    return (
        f"pooling_param {{ pool: {pick(random, 'MAX', 'AVE')} kernel_size: {random.randint(3, 5)} "
        f"stride: {random.randint(1, 4)} ceil_mode: {pick(random, 'true', 'false')} }}"
    ), [maps(random, least=5)]


def run_both(folder, type, options, inputs):
    """What this engine and what OpenCV computes."""
    text = ""
    for i, x in enumerate(inputs):
        dims = " ".join(f"dim: {size}" for size in x.shape)
        text += f'layer {{ name: "in{i}" type: "Input" top: "in{i}" '
        text += f"input_param {{ shape {{ {dims} }} }} }}\n"
    bottoms = " ".join(f'bottom: "in{i}"' for i in range(len(inputs)))
    text += f'layer {{ name: "layer" type: "{type}" {bottoms} top: "top" {options} }}\n'
    path, weights = folder / "net.prototxt", folder / "net.caffemodel"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    net.save(str(weights))
    judge = cv2.dnn.readNetFromCaffe(str(path), str(weights))
    for i, x in enumerate(inputs):
        net.blobs[f"in{i}"].data[...] = x
        judge.setInput(np.float32(x), f"in{i}")
    mine, theirs = net.forward()["top"], judge.forward("layer")
    if type == "DetectionOutput":
        return ranked(mine), ranked(theirs)
    return mine, theirs[: len(mine)] if type == "Proposal" else theirs  # it adds empty rows


def ranked(rows):
    """Detections by image and score; SSD has them label by label, and OpenCV adds empty rows."""
    rows = rows[0, 0][rows[0, 0, :, 2] > 0]
    return rows[np.lexsort((-rows[:, 2], rows[:, 0]))]


def assert_same(folder, type, seed):
    """Run one random row; return what makes it differ from others."""
    options, inputs = DRAWERS[type](np.random.RandomState(seed))
    mine, theirs = run_both(folder, type, options, inputs)
    assert mine.shape == theirs.shape and np.isfinite(mine).all(), (seed, options)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=options)
    return options, *(x.shape for x in inputs)


@pytest.mark.parametrize("type", DRAWERS)
def test_random_parameters_agree_with_opencv(tmp_path, type):
    rows = {assert_same(tmp_path, type, seed) for seed in range(ROWS)}
    assert len(rows) > (0 if type == "Reorg" else 3)


@pytest.mark.heavy
@pytest.mark.parametrize("type", DRAWERS)
def test_many_random_parameters_agree_with_opencv(tmp_path, type):
    for seed in range(ROWS, 200):
        assert_same(tmp_path, type, seed)
