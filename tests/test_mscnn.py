"""Regions of MS-CNN and Cascade R-CNN against their definition in numpy, box by box."""

import math

import numpy as np

import caffe
from test_forks_definitions import run, same

RANDOM = np.random.RandomState(3)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def test_regions_of_mscnn_are_pooled_with_their_surroundings():
    x, rois = normal(1, 2, 12, 12), np.float32([[0, 16, 24, 55, 63], [0, 8, 8, 23, 39]])
    wide = rois + [[0, -10, -10, 10, 10], [0, -4, -8, 4, 8]]  # a quarter of 40 x 40, 16 x 32 pixels
    options = "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.125 %s }"
    found = run("ROIPooling", options % "pad_ratio: 0.25", x, rois)[0]
    same(found, run("ROIPooling", options % "", x, wide.astype(np.float32))[0])
    assert not np.allclose(found, run("ROIPooling", options % "", x, rois)[0])


def boxes_of_mscnn(maps, fields, bounds, threshold, least, mean, deviation):
    """(score, x, y, width, height) of each pixel of each map (C + 4, H, W), pixel by pixel."""
    found, (whr, xyr) = [], bounds
    for values, (field, stride) in zip(maps, fields, strict=True):
        _, height, width = values.shape
        for row, column in np.ndindex(height, width):
            *scores, x, y, w, h = values[:, row, column]
            x, y, w, h = np.array([x, y, w, h]) * deviation + mean
            score = max(scores[1:]) - scores[0]
            if score < threshold:
                continue
            x = min(max(x, -1 / xyr), 1 / xyr) * field[0] + (column + 0.5) * stride
            y = min(max(y, -1 / xyr), 1 / xyr) * field[1] + (row + 0.5) * stride
            w = field[0] * math.exp(min(max(w, -math.log(whr)), math.log(whr)))
            h = field[1] * math.exp(min(max(h, -math.log(whr)), math.log(whr)))
            x, y = max(x - w / 2, 0), max(y - h / 2, 0)
            w, h = min(w, width * stride - x), min(h, height * stride - y)
            if w >= least and h >= least:
                found.append((score, x, y, w, h))
    return sorted(found, reverse=True)


def overlap_of_mscnn(one, other):
    """Of (x, y, width, height)."""
    right, bottom = (min(one[i] + one[i + 2], other[i] + other[i + 2]) for i in (0, 1))
    left, top = (max(one[i], other[i]) for i in (0, 1))
    both = max(right - left, 0) * max(bottom - top, 0)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def test_the_boxes_of_mscnn():
    maps, mean, deviation = [normal(2, 7, 6, 5), normal(2, 7, 3, 2)], [0, 0.1, 0, 0], [1, 1, 2, 2]
    options = """box_output_param { fg_thr: -0.5 iou_thr: 0.4 field_w: 20 field_w: 40 field_h: 24
      field_h: 40 downsample_rate: 8 downsample_rate: 16 max_nms_num: 25 max_post_nms_num: 9
      field_whr: 2 field_xyr: 4 min_size: 12 } bbox_reg_param { bbox_mean: [0, 0.1, 0, 0]
      bbox_std: [1, 1, 2, 2] }"""
    (regions, scored), _ = run("BoxOutput", options, *maps, tops=2)
    expected, suppressed = [], 0
    for image in range(2):
        boxes = boxes_of_mscnn(
            [one[image] for one in maps],
            [((20, 24), 8), ((40, 40), 16)],
            (2, 4),
            -0.5,
            12,
            mean,
            deviation,
        )[:25]
        kept = []
        for box in boxes:
            if all(overlap_of_mscnn(box[1:], other[1:]) <= 0.4 for other in kept):
                kept.append(box)
        suppressed += len(boxes) - len(kept)
        expected += [[image, x, y, x + w, y + h, score] for score, x, y, w, h in kept[:9]]
    assert suppressed > 5 and len(expected) > 10
    same(scored[:, :, 0, 0], expected)
    same(regions, scored[:, :5])


def test_without_boxes_mscnn_goes_on_with_one():
    options = "box_output_param { fg_thr: 99 field_w: 20 field_h: 20 downsample_rate: 8 }"
    (regions, scored), _ = run("BoxOutput", options, normal(1, 7, 4, 4), tops=2)
    same(regions.ravel(), [0, 1, 1, 10, 10])
    same(scored.ravel(), [0] * 6)


def test_the_stages_of_cascade_rcnn():
    options = """bbox_reg_param { bbox_mean: [0, 0.1, 0, 0] bbox_std: [0.1, 0.1, 0.2, 0.2] }"""
    codes, corners = normal(6, 8), np.sort(RANDOM.uniform(0, 60, (6, 2, 2)), 1).reshape(6, 4)
    regions = np.hstack([[[0]] * 3 + [[1]] * 3, corners]).astype(np.float32)
    expected = []
    for code, (image, x1, y1, x2, y2) in zip(codes[:, 4:], regions, strict=True):
        width, height = x2 - x1 + 1, y2 - y1 + 1
        x = (x1 + x2) / 2 + 0.1 * code[0] * width
        y = (y1 + y2) / 2 + (0.1 * code[1] + 0.1) * height
        width, height = width * math.exp(0.2 * code[2]), height * math.exp(0.2 * code[3])
        left, top = x - (width - 1) / 2, y - (height - 1) / 2
        expected.append([image, left, top, left + width - 1, top + height - 1])
    same(run("DecodeBBox", options, codes, regions)[0][:, :, 0, 0], expected)
    thin = np.float32([[0, 5, 5, 5, 5], [0, 5, 5, 15, 15]])  # of a pixel, made smaller: inside out
    small = np.float32([[0] * 6 + [-9, -9]] * 2)
    found = run("DecodeBBox", options, small, thin, phase=caffe.TRAIN)[0]
    assert len(found) == 1 and len(run("DecodeBBox", options, small, thin)[0]) == 2
