"""Layers of YOLO: Reorg, and the outputs of YOLOv2 and YOLOv3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from .boxes import BoxLayer, growth, suppress
from .detection import detections_top


@register
class Reorg(TensorLayer):
    """Moves blocks of pixels into channels, in Darknet's order.

    bottom: (N, C, H, W); top: (N, C s^2, H / s, W / s) with s the stride; with reverse
    (N, C / s^2, H s, W s). NOTE: Darknet takes the block's pixels from the bottom read as
    (N, C / s^2, H s, W s), so C must be a multiple of s^2 both ways. Options: reorg_param.
    """

    param_name = "reorg_param"
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        self.stride = self.options.stride
        check_positive(self.error, stride=(self.stride,))

    def reshape(self, *shapes: Shape) -> list[Shape]:
        shape, s = tuple(shapes[0]), self.stride
        reverse = self.options.reverse
        if len(shape) != 4 or shape[1] % s**2 or (not reverse and (shape[2] % s or shape[3] % s)):
            raise self.shape_error(
                f"stride {s} needs (N, C, H, W) with C a multiple of {s**2}"
                + ("" if reverse else f", H and W of {s}")
                + f"; found {shape}"
            )
        n, c, h, w = self.shape = shape
        self.wide = (n, c // s**2, h, s, w, s)  # the bottom's memory, or with reverse the top
        return [(n, c // s**2, h * s, w * s) if reverse else (n, c * s**2, h // s, w // s)]

    def forward(self, x: Tensor) -> Tensor:
        return self._spread(x) if self.options.reverse else self._gather(x)

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        return [self._gather(diffs[0]) if self.options.reverse else self._spread(diffs[0])]

    def _gather(self, x: Tensor) -> Tensor:
        """From (..., H s, W s) to blocks of channels (s s C / s^2)."""
        n, c, h, w = self.shape
        blocks = x.contiguous().reshape(self.wide).permute(0, 3, 5, 1, 2, 4)
        s = self.stride
        shape = (n, c, h, w) if self.options.reverse else (n, c * s**2, h // s, w // s)
        return device.layout(blocks.reshape(shape))

    def _spread(self, x: Tensor) -> Tensor:
        """The inverse of `_gather`."""
        n, c, h, w = self.shape
        s = self.stride
        blocks = x.contiguous().reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
        shape = (n, c // s**2, h * s, w * s) if self.options.reverse else self.shape
        return device.layout(blocks.reshape(shape))


class _YoloOutput(BoxLayer):
    """What both outputs share: suppression over all classes, and the rows of detections."""

    is_strict = False  # a score must lie above confidence_threshold, not at it

    def check_biases(self, anchors: int, biases: int) -> None:
        """Raise unless there are a width and a height for each of the anchors."""
        if biases < 2 * anchors:
            raise self.error(f"{anchors} anchors need {2 * anchors} biases; found {biases}")

    def rows(self, image: int, found: np.ndarray) -> np.ndarray:
        """Rows of detections from (score, label, x, y, width, height) in parts of the image."""
        least = self.options.confidence_threshold
        found = found[found[:, 0] > least if self.is_strict else found[:, 0] >= least]
        found = found[np.argsort(-found[:, 0], kind="stable")]
        center, half = found[:, 2:4], found[:, 4:] / 2
        boxes = np.hstack([center - half, center + half])
        # strictly below the threshold, unlike SSD's
        kept = suppress(boxes, np.nextafter(self.options.nms_threshold, -1))
        about = np.column_stack([np.full(len(kept), image), found[kept, 1] + 1, found[kept, 0]])
        return np.hstack([about, boxes[kept]])

    def grid(self, x: Tensor, anchors: int, classes: int) -> np.ndarray:
        """The values of a bottom as (N, A, 5 + classes, H, W)."""
        values = x.double().cpu().numpy()
        return values.reshape(len(x), anchors, 5 + classes, *x.shape[2:])

    def check_channels(self, shape: Shape, anchors: int, classes: int) -> None:
        """Raise unless a bottom has 5 values and the classes for each anchor."""
        if len(shape) != 4 or shape[1] != anchors * (5 + classes):
            raise self.shape_error(
                f"{anchors} anchors of {classes} classes need {anchors * (5 + classes)} channels: "
                f"x, y, width, height, object and classes of each; found {tuple(shape)}"
            )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def _boxes(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The boxes (A H W, 4) of codes (A, 4+, H, W): center and size in parts of the image.

    sizes: the anchors' widths and heights, (A, 2), in parts of the image.
    """
    height, width = values.shape[2:]
    x = (np.arange(width) + _sigmoid(values[:, 0])) / width
    y = (np.arange(height)[:, None] + _sigmoid(values[:, 1])) / height
    size = growth(values[:, 2:4]) * sizes[:, :, None, None]
    return np.stack([x, y, size[:, 0], size[:, 1]], -1).reshape(-1, 4)


def _scored(object_: np.ndarray, classes: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(score, label, box) of each box: its best class times that it is an object."""
    label = classes.argmax(1)
    score = classes.max(1) * object_
    return np.hstack([score.reshape(-1, 1), label.reshape(-1, 1), boxes])


@register
class YoloDetectionOutput(_YoloOutput):
    """The boxes of YOLOv2's last feature map.

    bottom: (N, A (5 + classes), H, W), for each anchor x, y, width, height, object, classes;
    top: (1, 1, K, 7), rows (image, label from 1, score, xmin, ymin, xmax, ymax). The score is
    sigmoid(object) times the softmax of the best class; biases are the anchors in pixels of the
    map. Boxes overlap no better one of any class by nms_threshold or more. Options:
    yolo_detection_output_param. MobileNet-YOLO; Redmon and Farhadi, 2017.
    """

    param_name = "yolo_detection_output_param"

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if options.coords != 4:
            raise self.error(f"coords must be 4; found {options.coords}")
        self.check_biases(options.num_box, len(options.biases))

    def reshape(self, *shapes: Shape) -> list[Shape]:
        self.check_channels(shapes[0], self.options.num_box, self.options.num_classes)
        return [(1, 1, shapes[0][0], 7)]

    def forward(self, x: Tensor) -> Tensor:
        options = self.options
        values = self.grid(x, options.num_box, options.num_classes)
        biases = np.reshape(options.biases[: 2 * options.num_box], (-1, 2))
        sizes = biases / np.array(x.shape[:1:-1])
        rows = []
        for image, value in enumerate(values):
            classes = np.exp(value[:, 5:] - value[:, 5:].max(1, keepdims=True))
            classes /= classes.sum(1, keepdims=True)
            found = _scored(_sigmoid(value[:, 4]), classes, _boxes(value, sizes))
            rows.append(self.rows(image, found))
        return detections_top(rows, len(x))


@register
class Yolov3DetectionOutput(_YoloOutput):
    """The boxes of YOLOv3's feature maps.

    bottoms: (N, A (5 + classes), H, W) each, as YoloDetectionOutput's; top: the same. A is
    num_box; bottom i uses the anchors that group i of `mask` names, of all biases, which are in
    pixels of the image: anchors_scale[i] times as large as the map. The score is sigmoid(object)
    times the sigmoid of the best class. Options: yolov3_detection_output_param. MobileNet-YOLO;
    Redmon and Farhadi, 2018.
    """

    bottom_count = (1, None)
    param_name = "yolov3_detection_output_param"
    is_strict = True

    def setup(self, *shapes: Shape) -> None:
        options, count = self.options, len(shapes)
        if len(options.anchors_scale) != count or len(options.mask) != count * options.num_box:
            raise self.error(
                f"{count} bottoms need {count} anchors_scale and {count * options.num_box} mask; "
                f"found {len(options.anchors_scale)} and {len(options.mask)}"
            )
        self.check_biases(max(options.mask, default=0) + 1, len(options.biases))
        self.anchors = np.reshape(options.biases[: len(options.biases) // 2 * 2], (-1, 2))
        self.masks = np.reshape(options.mask, (count, -1))

    def reshape(self, *shapes: Shape) -> list[Shape]:
        for shape in shapes:
            self.check_channels(shape, self.options.num_box, self.options.num_classes)
        return [(1, 1, shapes[0][0], 7)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        found = [
            self._found(x, self.anchors[mask] / scale)
            for x, mask, scale in zip(bottoms, self.masks, self.options.anchors_scale, strict=True)
        ]
        images = len(bottoms[0])
        rows = [
            self.rows(image, np.concatenate([boxes[image] for boxes in found]))
            for image in range(images)
        ]
        return detections_top(rows, images)

    def _found(self, x: Tensor, anchors: np.ndarray) -> list[np.ndarray]:
        """For each image, (score, label, box) of every box of one map; anchors in its pixels."""
        values = self.grid(x, self.options.num_box, self.options.num_classes)
        sizes = anchors / np.array(x.shape[:1:-1])
        return [
            _scored(_sigmoid(value[:, 4]), _sigmoid(value[:, 5:]), _boxes(value, sizes))
            for value in values
        ]
