"""DetectionEvaluate: which detections find an object (SSD)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_plain.geometry import check_positive

from ... import device
from ...layer import Shape, register
from .boxes import BoxLayer, overlaps
from .output_boxes import in_pixels, read_sizes
from .truths import Truths


@register
class DetectionEvaluate(BoxLayer):
    """Says of each detection whether it is right; a test makes mean average precision of it.

    bottom 0: detections, (1, 1, K, 7), of DetectionOutput; bottom 1: objects, (1, 1, G, 8), of
    AnnotatedData; top: (1, 1, C + D, 5): for each class but the background (-1, label, number of
    objects, -1, -1), then for each detection (image, label, score, right, wrong). The best
    detection that overlaps an object of its label by at least overlap_threshold is right, the
    others wrong; with evaluate_difficult_gt: false those of difficult objects are neither. With
    name_size_file (lines NAME HEIGHT WIDTH, in the order of the images) boxes are compared in
    pixels; all batches must have as many images. Options: detection_evaluate_param. SSD.
    """

    bottom_count = (2, 2)
    param_name = "detection_evaluate_param"

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        if not options.num_classes:
            raise self.error("num_classes is missing; count the background too")
        if options.overlap_threshold <= 0:
            raise self.error(
                f"overlap_threshold must be positive; found {options.overlap_threshold}"
            )
        if options.HasField("resize_param"):
            resized = (options.resize_param.height, options.resize_param.width)
            check_positive(self.error, resize_param=resized)
        self.truths = Truths(self, options.num_classes, options.background_label_id)
        self.sizes = read_sizes(self, options.name_size_file) if options.name_size_file else []
        self.image = 0  # of the list of sizes
        self.batch = 0  # images, the most so far: no row may tell of a batch's last ones

    def reshape(self, *shapes: Shape) -> list[Shape]:
        if len(shapes[0]) != 4 or shapes[0][3] != 7:
            raise self.shape_error(
                f"bottom 0 needs detections, (1, 1, K, 7), of DetectionOutput; found "
                f"{tuple(shapes[0])}"
            )
        self.truths.check(1, shapes[1])
        return [(1, 1, self.options.num_classes + shapes[0][2], 5)]  # until it is known

    def forward(self, detections: Tensor, truth: Tensor) -> Tensor:
        rows = detections.double().cpu().numpy().reshape(-1, 7)
        objects = self.truths.read(truth, None, with_difficult=True)
        images = max(len(objects), int(rows[:, 0].max(initial=-1)) + 1)
        nothing = self.truths.none()
        found = [self._counts(objects)]
        for image in range(images):
            own = rows[(rows[:, 0] == image) & (rows[:, 1] != -1)]
            there = objects[image] if image < len(objects) else nothing
            for label in np.unique(own[:, 1]):
                found.append(self._judged(own[own[:, 1] == label], there, image))
        if self.sizes:
            self.batch = max(self.batch, images)
            self.image = (self.image + self.batch) % len(self.sizes)
        top = torch.from_numpy(np.concatenate(found)[None, None])
        return top.to(device.current(), device.master_dtype())

    def _counts(self, objects: list) -> np.ndarray:
        """The rows of the classes."""
        options = self.options
        labels = [c for c in range(options.num_classes) if c != options.background_label_id]
        counted = [own.labels[~own.difficult | options.evaluate_difficult_gt] for own in objects]
        every = np.concatenate(counted) if counted else np.empty(0)
        return np.array([[-1, label, (every == label).sum(), -1, -1] for label in labels], float)

    def _judged(self, rows: np.ndarray, there, image: int) -> np.ndarray:
        """The rows of an image's detections of one label, best first."""
        rows = rows[np.argsort(-rows[:, 2], kind="stable")]
        mine = there.labels == rows[0, 1]
        boxes, truths, difficult = rows[:, 3:], there.boxes[mine], there.difficult[mine]
        if self.sizes:
            size = self.sizes[(self.image + image) % len(self.sizes)]
            boxes, truths = (in_pixels(b, size, self.options) for b in (boxes, truths))
        judged = np.hstack([rows[:, :3], np.zeros((len(rows), 2))])
        found = set()
        for row, box in zip(judged, boxes, strict=True):
            shared = overlaps(box, truths, 1 if self.sizes else 0)
            best = int(shared.argmax()) if len(shared) else -1
            if best < 0 or shared[best] < self.options.overlap_threshold:
                row[4] = 1
            elif self.options.evaluate_difficult_gt or not difficult[best]:
                row[4 if best in found else 3] = 1
                found.add(best)
        return judged
