"""DetectionOutput: from codes, scores and prior boxes to detections (SSD)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import device
from ...layer import Shape, register
from ...proto.caffe_pb2 import PriorBoxParameter
from .boxes import BoxLayer, decode, suppress


def detections_top(rows: list[np.ndarray], images: int, columns: int = 7) -> Tensor:
    """The top (1, 1, K, 7) of rows (image, label, score, xmin, ymin, xmax, ymax), or longer ones.

    Without any row, one for each of the `images` whose other values are -1, as in SSD.
    """
    found = np.concatenate(rows) if rows else np.empty((0, columns))
    if not len(found):
        found = np.full((images, columns), -1.0)
        found[:, 0] = np.arange(images)
    return torch.from_numpy(found[None, None]).to(device.current(), device.master_dtype())


@register
class DetectionOutput(BoxLayer):
    """The best boxes of each class, none overlapping a better one of its class too much.

    bottom 0: codes of boxes, (N, 4 P L); bottom 1: scores, (N, P classes); bottom 2: (1, 2, 4 P),
    of PriorBox; bottom 3, 4 (RefineDet): scores of no object and of one, (N, 2 P), and codes that
    move the prior boxes first, (N, 4 P); top: (1, 1, K, 7), rows (image, label, score, xmin, ymin,
    xmax, ymax). L is 1, or with share_location: false the number of classes. For each class but
    the background, the nms_param.top_k best of the scores above confidence_threshold are suppressed
    by nms_threshold; the keep_top_k best of an image stay. With bottom 3 boxes whose score of an
    object is below objectness_score are left out. Options: detection_output_param. SSD; without
    detections see `detections_top`. With visualize a fourth bottom is the image, as in SSD's demos.
    """

    bottom_count = (3, 5)
    param_name = "detection_output_param"
    fork_fields = ("objectness_score", "use_polygon")

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if not options.num_classes:
            raise self.error("num_classes is missing; count the background too")
        if options.nms_param.nms_threshold < 0 or not 0 < options.nms_param.eta <= 1:
            raise self.error(
                f"nms_threshold must not be negative and eta lie in (0, 1]; found "
                f"{options.nms_param.nms_threshold} and {options.nms_param.eta}"
            )
        self.codes = 12 if options.use_polygon else 4  # of a box
        if options.use_polygon and (
            options.variance_encoded_in_target or options.code_type != PriorBoxParameter.CENTER_SIZE
        ):
            raise self.error(
                "use_polygon needs code_type: CENTER_SIZE and variance_encoded_in_target: false"
            )
        if options.save_output_param.output_directory or options.visualize:
            warnings.warn(
                f"layer {self.name!r} (DetectionOutput): detections are in the top only; "
                "save_output_param and visualize have no effect",
                stacklevel=2,
            )

    def _used(self, bottoms: Sequence[Any]) -> Sequence[Any]:
        """Without the image that SSD's layer would draw its boxes into."""
        return bottoms[:3] if self.options.visualize and len(bottoms) == 4 else bottoms

    def reshape(self, *shapes: Shape) -> list[Shape]:
        shapes = tuple(self._used(shapes))
        codes, scores, priors, *refining = (int(np.prod(shape)) for shape in shapes)
        images, self.priors = shapes[0][0], priors // 8
        self.locations = 1 if self.options.share_location else self.options.num_classes
        expected = [
            images * self.priors * self.codes * self.locations,
            images * self.priors * self.options.num_classes,
        ]
        if [codes, scores] != expected or priors % 8:
            raise self.shape_error(
                f"{self.priors} prior boxes (bottom 2 {tuple(shapes[2])}) and "
                f"{self.options.num_classes} classes need {expected[0]} codes and {expected[1]} "
                f"scores for {images} images; found {tuple(shapes[0])} and {tuple(shapes[1])}"
            )
        if refining != [images * self.priors * size for size in (2, 4)[: len(refining)]]:
            raise self.shape_error(
                f"RefineDet's bottoms need (N, {2 * self.priors}) and (N, {4 * self.priors}) "
                f"values; found {list(map(tuple, shapes[3:]))}"
            )
        return [(1, 1, 1, 3 + self.codes)]  # until there are detections

    def forward(self, *bottoms: Tensor) -> Tensor:
        codes, scores, priors, *refining = (x.double().cpu().numpy() for x in self._used(bottoms))
        images, options = len(codes), self.options
        scores = scores.reshape(images, self.priors, options.num_classes)
        priors, variances = priors.reshape(2, self.priors, 4)
        codes = codes.reshape(images, self.priors, self.locations, self.codes).swapaxes(1, 2)
        if options.variance_encoded_in_target:
            variances = None
        if refining:
            objects = refining[0].reshape(images, self.priors, 2)[:, :, 1:]
            scores = np.where(objects < options.objectness_score, 0, scores)
        if len(refining) == 2:
            moves = refining[1].reshape(images, 1, self.priors, 4)
            priors = decode(moves, priors, variances, options.code_type)
        boxes = decode(codes[..., :4], priors, variances, options.code_type)  # (N, L, P, 4)
        if options.use_polygon:
            corners = _corners(codes[..., 4:], priors, variances)
            boxes = np.concatenate([boxes, corners], -1)  # (N, L, P, 12)
        rows = [
            row
            for image in range(images)
            for row in self._image(image, boxes[image], scores[image])
        ]
        return detections_top(rows, images, 3 + self.codes)

    def _image(self, image: int, boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
        """The rows of one image, label by label, each best first."""
        found = []
        for label in range(self.options.num_classes):
            if label != self.options.background_label_id:
                own = boxes[label if self.locations > 1 else 0]
                kept = self._kept(own[:, :4], scores[:, label])
                about = np.tile([image, label], (len(kept), 1))
                found.append(np.hstack([about, scores[kept, label][:, None], own[kept]]))
        most, every = self.options.keep_top_k, sum(map(len, found))
        if -1 < most < every:
            order = np.argsort(-np.concatenate(found)[:, 2], kind="stable")[:most]
            chosen = np.isin(np.arange(every), order)
            return [np.concatenate(found)[chosen]]
        return [rows for rows in found if len(rows)]

    def _kept(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The indices of the boxes of a class that stay, best first."""
        options = self.options
        indices = np.arange(len(scores))
        if options.HasField("confidence_threshold"):
            indices = indices[scores > options.confidence_threshold]
        indices = indices[np.argsort(-scores[indices], kind="stable")]
        if options.nms_param.HasField("top_k") and options.nms_param.top_k > -1:
            indices = indices[: options.nms_param.top_k]
        nms = options.nms_param
        return indices[suppress(boxes[indices], nms.nms_threshold, eta=nms.eta)]


def _corners(codes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None) -> np.ndarray:
    """The corners (..., P, 8) that `codes` move away from those of prior boxes (P, 4)."""
    size = np.tile(priors[..., 2:] - priors[..., :2], 4)
    shift = 1 if variances is None else np.tile(variances[..., :2], 4)
    return priors[..., [0, 1, 2, 1, 2, 3, 0, 3]] + codes * shift * size
