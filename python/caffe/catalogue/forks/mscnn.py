"""Regions from several feature maps, and from the codes of other regions: MS-CNN, Cascade R-CNN."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Shape, TensorLayer, register
from ...proto import caffe_pb2
from .boxes import BoxLayer, growth, suppress

_NOTHING = [0.0, 1.0, 1.0, 10.0, 10.0]  # the region where none is found, so that nets go on


def _normalization(layer: TensorLayer, param: caffe_pb2.BBoxRegParameter) -> np.ndarray:
    """The means of the codes and their deviations, (2, 4); 0 and 1 unless both are given."""
    given = [list(param.bbox_mean), list(param.bbox_std)]
    if not all(given):
        return np.array([[0.0] * 4, [1.0] * 4])
    if [len(values) for values in given] != [4, 4] or min(given[1]) <= 0:
        raise layer.error(
            "bbox_reg_param takes 4 bbox_mean and 4 positive bbox_std: of x, y, width and height; "
            f"found {given[0]} and {given[1]}"
        )
    return np.array(given)


@register
class BoxOutput(BoxLayer):
    """The best boxes of feature maps, each of which looks for boxes of one size.

    bottoms: (N, C + 4, H, W): for each pixel the scores of C classes, the background first, and a
    code x, y, width, height; top 0: regions, (R, 5, 1, 1), rows (image, x1, y1, x2, y2); top 1
    (optional): these and their score, (R, 6, 1, 1). A score is the best class's minus the
    background's; those of at least fg_thr count. A box is field_w x field_h pixels around its
    pixel, moved by at most 1 / field_xyr of it and field_whr times as large or small at most; of
    those with at least min_size pixels each way the max_nms_num best are suppressed by iou_thr, and
    max_post_nms_num stay (0: all). Without any, there is one region of 10 x 10 pixels. Options:
    box_output_param, bbox_reg_param. MS-CNN; Cai et al., 2016.
    """

    bottom_count = (1, None)
    top_count = (1, 2)
    param_name = "box_output_param"

    def setup(self, *shapes: Shape) -> None:
        options, count = self.options, len(shapes)
        self.fields = [
            list(getattr(options, name)) for name in ("field_w", "field_h", "downsample_rate")
        ]
        if any(len(values) != count or min(values) < 1 for values in self.fields):
            raise self.error(
                f"{count} bottoms need {count} positive field_w, field_h and downsample_rate each; "
                f"found {self.fields}"
            )
        if options.nms_type != "IOU":
            raise self.error(f"nms_type {options.nms_type!r} is not supported; use IOU")
        check_positive(self.error, field_whr=(options.field_whr,), field_xyr=(options.field_xyr,))
        self.normal = _normalization(self, self.layer_param.bbox_reg_param)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        first = tuple(shapes[0])
        alike = all(len(shape) == 4 and tuple(shape[:2]) == first[:2] for shape in shapes)
        if not alike or first[1] < 6:
            raise self.shape_error(
                "needs bottoms (N, C + 4, H, W) with at least 2 scores and 4 codes, alike but for "
                f"their size; found {list(map(tuple, shapes))}"
            )
        return [(1, 5, 1, 1), (1, 6, 1, 1)][: len(self.layer_param.top)]  # until there are regions

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        maps = [x.double().cpu().numpy() for x in bottoms]
        found = np.concatenate([self._image(maps, image) for image in range(len(maps[0]))])
        tops = [found[:, :5], found]
        if not len(found):
            tops = [np.array([_NOTHING]), np.zeros((1, 6))]
        made = (torch.from_numpy(np.ascontiguousarray(top)[:, :, None, None]) for top in tops)
        dtype = device.master_dtype()
        return [top.to(device.current(), dtype) for top in made][: len(self.layer_param.top)]

    def _image(self, maps: list[np.ndarray], image: int) -> np.ndarray:
        """The regions of an image and their scores, (R, 6), best first."""
        options = self.options
        fields = zip(maps, *self.fields, strict=True)
        rows = np.concatenate([self._boxes(one[image], *field) for one, *field in fields])
        order = np.argsort(-rows[:, 4], kind="stable")[: options.max_nms_num or None]
        rows = rows[order]
        kept = suppress(rows[:, :4], options.iou_thr, options.max_post_nms_num or -1)
        return np.insert(rows[kept], 0, image, 1)

    def _boxes(self, values: np.ndarray, width: int, height: int, stride: int) -> np.ndarray:
        """The boxes of a map (C + 4, H, W) that count, and their scores, (B, 5)."""
        options = self.options
        score = values[1:-4].max(0) - values[0]
        y, x = np.nonzero(score >= options.fg_thr)
        mean, deviation = self.normal
        codes = values[-4:, y, x].T * deviation + mean
        field, most = np.array([width, height]), 1 / options.field_xyr
        center = codes[:, :2].clip(-most, most) * field + (np.column_stack([x, y]) + 0.5) * stride
        limit = abs(np.log(options.field_whr))
        size = field * np.exp(codes[:, 2:].clip(-limit, limit))
        low = (center - size / 2).clip(0)
        size = np.minimum(size, np.array(values.shape[:0:-1]) * stride - low)
        rows = np.hstack([low, low + size, score[y, x][:, None]])
        return rows[(size >= options.min_size).all(1)]


@register
class DecodeBBox(BoxLayer):
    """The regions that codes relative to other regions stand for.

    bottom 0: codes, (R, 8, ...), of which the last four count, those of the object; bottom 1:
    regions, (R, 5, ...); top: (R, 5, 1, 1), in training without those turned inside out. Options:
    bbox_reg_param. Cascade R-CNN; Cai and Vasconcelos, 2018. Its third bottom, objects that are
    left out of a training, is not supported.
    """

    bottom_count = (2, 2)

    def setup(self, *shapes: Shape) -> None:
        self.normal = _normalization(self, self.layer_param.bbox_reg_param)

    def reshape(self, *shapes: Shape) -> list[Shape]:
        codes, regions = map(tuple, shapes)
        if codes[1:2] != (8,) or regions[1:2] != (5,) or codes[0] != regions[0]:
            raise self.shape_error(
                f"needs codes (R, 8) and regions (R, 5); found {codes}, {regions}"
            )
        return [(regions[0], 5, 1, 1)]

    def forward(self, codes: Tensor, regions: Tensor) -> Tensor:
        codes, regions = (x.double().cpu().numpy().reshape(len(x), -1) for x in (codes, regions))
        mean, deviation = self.normal
        codes, boxes = codes[:, 4:] * deviation + mean, regions[:, 1:]
        size = boxes[:, 2:] - boxes[:, :2] + 1
        center = (boxes[:, :2] + boxes[:, 2:]) / 2 + codes[:, :2] * size
        half = (growth(codes[:, 2:]) * size - 1) / 2
        rows = np.hstack([regions[:, :1], center - half, center + half])
        if self.training:
            rows = rows[(half >= 0).all(1)]
            if not len(rows):
                raise self.error("no region is left, all are turned inside out; lower the rate")
        top = torch.from_numpy(rows[:, :, None, None])
        return top.to(device.current(), device.master_dtype())
