"""Objects in images, as AnnotatedData hands them out and the layers of SSD read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...layer import Shape, TensorLayer

COLUMNS = 8  # image, label, instance, xmin, ymin, xmax, ymax, difficult


@dataclass(frozen=True)
class Objects:
    """The objects of one image."""

    labels: np.ndarray  # (G,) int
    boxes: np.ndarray  # (G, 4): xmin, ymin, xmax, ymax in parts of the image
    difficult: np.ndarray  # (G,) bool

    def __len__(self) -> int:
        return len(self.labels)


class Truths:
    """Reads the objects that one bottom of `layer` holds."""

    def __init__(self, layer: TensorLayer, classes: int, background: int) -> None:
        self.layer, self.classes, self.background = layer, classes, background

    @staticmethod
    def none() -> Objects:
        """What an image without objects holds."""
        return Objects(np.empty(0, int), np.empty((0, 4)), np.empty(0, bool))

    def check(self, index: int, shape: Shape) -> None:
        """Raise unless bottom `index` has the shape of objects, (1, 1, G, 8)."""
        self.index = index
        if tuple(shape)[:2] != (1, 1) or len(shape) != 4 or shape[3] != COLUMNS:
            raise self.layer.shape_error(
                f"bottom {index} needs the shape (1, 1, G, {COLUMNS}), a row for each object: "
                f"image, label, instance, xmin, ymin, xmax, ymax, difficult; found {tuple(shape)}"
            )

    def read(self, truth: Tensor, images: int | None, with_difficult: bool) -> list[Objects]:
        """The objects of each of `images` (None: as many as the rows say)."""
        rows = truth.double().cpu().numpy().reshape(-1, COLUMNS)
        rows = rows[rows[:, 0] != -1]
        self._check_values(rows, images)
        if not with_difficult:
            rows = rows[rows[:, 7] == 0]
        if images is None:
            images = int(rows[:, 0].max(initial=-1)) + 1
        groups = (rows[rows[:, 0] == image] for image in range(images))
        return [Objects(own[:, 1].astype(int), own[:, 3:7], own[:, 7] != 0) for own in groups]

    def _check_values(self, rows: np.ndarray, images: int | None) -> None:
        labels, where = rows[:, 1], f"bottom {self.index}"
        wrong = (labels < 0) | (labels >= self.classes) | (labels == self.background)
        if wrong.any():
            raise self.layer.error(
                f"{where} holds an object of label {labels[wrong][0]:.0f}; labels are 0 to "
                f"{self.classes - 1} without {self.background}, the background: correct "
                "num_classes, background_label_id or the data"
            )
        if len(rows) and (rows[:, 0].min() < 0 or (images and rows[:, 0].max() >= images)):
            raise self.layer.error(
                f"{where} holds an object of image {rows[:, 0].max():.0f}; there are {images}, "
                "counted from 0"
            )
