"""Proposal: regions of interest from the scores and codes of anchors (Faster R-CNN, R-FCN)."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caffe_plain.errors import LayerError
from caffe_plain.geometry import check_positive
from caffe_plain.python_layers import STAND_INS

from ... import device
from ...blob import Blob
from ...layer import Layer, Shape, register
from ...proto import caffe_pb2
from .boxes import BoxLayer, growth, suppress

# 'name': value in YAML: a number, or a list in brackets
_OPTION = re.compile(r"""(\w+)['"]?\s*:\s*(?:!!python/tuple\s*)?(\[[^]]*\]|\([^)]*\)|[\w.]+)""")


def anchors(base_size: int, ratios: Sequence[float], scales: Sequence[float]) -> np.ndarray:
    """The boxes of the first pixel, (A, 4): for each ratio (height / width) all scales.

    Their sides are rounded before they are scaled, as in generate_anchors of py-faster-rcnn.
    """
    center, found = (base_size - 1) / 2, []
    for ratio in ratios:
        width = np.round(math.sqrt(base_size**2 / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            half = np.array([width * scale - 1, height * scale - 1]) / 2
            found.append(np.concatenate([center - half, center + half]))
    return np.array(found)


def shifted(boxes: np.ndarray, height: int, width: int, stride: float) -> np.ndarray:
    """The boxes (A, 4) of every pixel of a map, (H W A, 4)."""
    y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
    steps = np.stack([x, y, x, y], -1)[:, :, None]
    return (steps + boxes).reshape(-1, 4)


def moved(boxes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The boxes (N, 4), whose last pixels belong to them, moved and scaled by codes (N, 4)."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    center = boxes[:, :2] + size / 2 + codes[:, :2] * size
    half = growth(codes[:, 2:]) * size / 2
    return np.hstack([center - half, center + half])


class Choice(NamedTuple):
    """Which regions are proposed: the best of the best that do not overlap."""

    pre_nms: int  # how many are looked at; 0: all
    post_nms: int  # how many stay; 0: all
    threshold: float  # how much they may overlap
    least: tuple[float, float]  # height and width below which a region is small
    drops_small: bool  # or else gives them the score 0


def propose(
    scores: np.ndarray,
    codes: np.ndarray,
    image: Sequence[float],
    base: np.ndarray,
    stride: float,
    choice: Choice,
) -> tuple[np.ndarray, np.ndarray]:
    """The regions (R, 4) and their scores (R,), best first.

    scores: (A, H, W) of being an object; codes: (4 A, H, W); image: its height and width;
    base: the anchors (A, 4) of the first pixel.
    """
    height, width = scores.shape[1:]
    scores = scores.transpose(1, 2, 0).reshape(-1)
    codes = codes.reshape(-1, 4, height, width).transpose(2, 3, 0, 1).reshape(-1, 4)
    boxes = moved(shifted(base, height, width, stride), codes)
    boxes = np.clip(boxes, 0, np.tile([image[1] - 1, image[0] - 1], 2))
    size = boxes[:, 2:] - boxes[:, :2] + 1
    large = (size >= np.array(choice.least)[::-1]).all(1)
    if choice.drops_small:
        boxes, scores = boxes[large], scores[large]
    else:
        scores = scores * large
    order = np.argsort(-scores, kind="stable")[: choice.pre_nms or None]
    order = order[suppress(boxes[order], choice.threshold, choice.post_nms or -1, pixel=1)]
    return boxes[order], scores[order]


@register
class Proposal(BoxLayer):
    """The best boxes of a region proposal network.

    bottom 0: scores, (1, 2 A, H, W), those of being an object last; bottom 1: codes, (1, 4 A, H,
    W); bottom 2: the image's height, width and scale (one, or one for each), (1, 3) or (1, 4);
    top 0: regions, (R, 5); top 1 (optional): their scores, (R, 1). Anchors: for each ratio
    (height / width) all scales of base_size. Boxes smaller than min_size times the scale get the
    score 0. Options: proposal_param. Ren et al., 2015; the C++ layer of PVANet and others. NOTE:
    caffe-windows' scales are sizes in pixels, here multiples of base_size: divide them by it.
    """

    bottom_count = (3, 3)
    top_count = (1, 2)
    param_name = "proposal_param"

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if not options.ratio or not options.scale:
            raise self.error("ratio and scale are missing; py-faster-rcnn's are 0.5 1 2, 8 16 32")
        check_positive(
            self.error,
            feat_stride=(options.feat_stride,),
            base_size=(options.base_size,),
            ratio=tuple(options.ratio),
            scale=tuple(options.scale),
        )
        self.anchors = anchors(options.base_size, options.ratio, options.scale)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        scores, codes, image = map(tuple, shapes)
        count = len(self.anchors)
        if scores[:2] != (1, 2 * count) or codes != (1, 4 * count, *scores[2:]):
            raise self.shape_error(
                f"{count} anchors need scores (1, {2 * count}, H, W) and codes (1, {4 * count}, H, "
                f"W), of one image; found {scores} and {codes}"
            )
        if math.prod(image) < 3:
            raise self.shape_error(f"bottom 2 needs height, width and scale; found shape {image}")
        most = max(self.options.post_nms_topn, 1)
        return [(most, 5), (most, 1)][: len(self.layer_param.top)]  # until there are regions

    def forward(self, scores: Tensor, codes: Tensor, image: Tensor) -> Sequence[Tensor]:
        options = self.options
        scores, codes, image = (x.double().cpu().numpy() for x in (scores, codes, image))
        height, width, *scale = image.reshape(-1)[:4]
        boxes, scores = propose(
            scores[0, len(self.anchors) :],
            codes[0],
            (height, width),
            self.anchors,
            options.feat_stride,
            Choice(
                options.pre_nms_topn,
                options.post_nms_topn,
                options.nms_thresh,
                (options.min_size * scale[0], options.min_size * scale[-1]),
                drops_small=False,
            ),
        )
        rows = np.hstack([np.zeros((len(boxes), 1)), boxes])
        tops = (torch.from_numpy(found) for found in (rows, scores[:, None]))
        made = [top.to(device.current(), device.master_dtype()) for top in tops]
        return made[: len(self.layer_param.top)]


def options_of(param_str: str) -> dict[str, str]:
    """{name: value as text} of a Python layer's param_str in YAML."""
    return dict(_OPTION.findall(param_str))


def read_anchors(param_str: str) -> tuple[float, np.ndarray]:
    """The stride and the anchors (A, 4) that a param_str of py-faster-rcnn asks for."""
    options = options_of(param_str)
    try:
        scales = ast.literal_eval(options.get("scales", "(8, 16, 32)"))
        ratios = ast.literal_eval(options.get("ratios", "(0.5, 1, 2)"))
        return float(options["feat_stride"]), anchors(16, ratios, scales)
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise LayerError(
            f"param_str {param_str!r}: expected \"'feat_stride': 16\", and optionally "
            f"\"'scales': [8, 16, 32]\" and \"'ratios': [0.5, 1, 2]\" "
            f"({type(error).__name__}: {error})"
        ) from None


class ProposalLayer(Layer):
    """rpn.proposal_layer.ProposalLayer of py-faster-rcnn, where that package is not there.

    Bottoms and tops as Proposal's; param_str: 'feat_stride' and optionally 'scales' and 'ratios'.
    Boxes smaller than 16 times the image's scale are dropped. TEST: the best 300 of 6,000; TRAIN:
    2,000 of 12,000; overlaps are at most 0.7: its config's defaults.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the strides and scales, make the anchors."""
        self.stride, self.anchors = read_anchors(self.param_str)
        self.reshape(bottom, top)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One region until there are more."""
        for blob, columns in zip(top, (5, 1), strict=False):
            blob.reshape(1, columns)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Propose regions."""
        scores, codes, image = (blob.data for blob in bottom)
        height, width, scale = image[0][:3]
        training = self.phase == caffe_pb2.TRAIN
        boxes, scores = propose(
            scores[0, len(self.anchors) :],
            codes[0],
            (height, width),
            self.anchors,
            self.stride,
            Choice(
                12000 if training else 6000,
                2000 if training else 300,
                0.7,
                (16 * scale, 16 * scale),
                drops_small=True,
            ),
        )
        rows = np.hstack([np.zeros((len(boxes), 1)), boxes])
        for blob, found in zip(top, (rows, scores[:, None]), strict=False):
            blob.reshape(*found.shape)
            blob.data[...] = found

    def backward(
        self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """No gradient reaches the scores and codes."""
        for blob in bottom:
            blob.diff[...] = 0


STAND_INS["rpn.proposal_layer", "ProposalLayer"] = ProposalLayer
