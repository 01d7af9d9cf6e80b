"""Mixup and CutMix: each image of a batch takes a share of another one, and its label as well.

Zhang, Cisse, Dauphin, Lopez-Paz, mixup: Beyond Empirical Risk Minimization, 2018. Yun et al.,
CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np
import torch

from .errors import SceneError

MIX_SEED = 0x6D6978  # keeps these draws apart from those of the crops


class Mix(NamedTuple):
    """What N images take: of image `partners` (N,), rows[i, y] * columns[i, x] at pixel (y, x)."""

    partners: np.ndarray
    rows: np.ndarray  # (N, h) float32, in [0, 1]
    columns: np.ndarray  # (N, w) float32, in [0, 1]

    @property
    def shares(self) -> np.ndarray:
        """(N,) how much of each image is its partner's."""
        return self.rows.mean(1) * self.columns.mean(1)


class Mixer:
    """Mixes the images of a batch as mixup_alpha and cutmix_alpha say, each image by its own draw.

    Where both are given, each image draws which of them it is. `place(array)` brings an array to
    where the net computes. The draws follow from the seed and the batch's first position.
    """

    seed: int = 0

    def __init__(self, options: Any, labels: np.ndarray, place: Callable) -> None:
        self.options, self.place = options, place
        self.classes = options.classes or int(labels.max()) + 1
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise SceneError(
                f"source {options.source}: labels from {low} to {high}, to be mixed among "
                f"{self.classes} classes, 0 to {self.classes - 1}: give another number of classes"
            )

    def __call__(
        self, data: torch.Tensor, labels: np.ndarray, positions: np.ndarray
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Mixed images, like `data` (N, h, w, C), and their labels as shares (N, classes)."""
        mix = self.draw(positions, *data.shape[1:3])
        rows, columns = self.place(mix.rows), self.place(mix.columns)
        share = rows[:, :, None, None] * columns[:, None, :, None]  # (N, h, w, 1)
        mixed = torch.lerp(data, data[self.place(mix.partners)], share)
        return mixed, self.mixed_labels(mix, labels)

    def draw(self, positions: np.ndarray, height: int, width: int) -> Mix:
        """The Mix of the batch at `positions` (N,), of images of that size."""
        seed, first, count = self.seed ^ MIX_SEED, int(positions[0]), len(positions)
        words = (seed, seed >> 32, first, first >> 32)
        random = np.random.RandomState([word & 0xFFFFFFFF for word in words])
        mixup, cutmix = self.options.mixup_alpha, self.options.cutmix_alpha
        partners = random.permutation(count)
        cut = random.rand(count) < (0.5 if mixup and cutmix else float(cutmix > 0))
        alphas = np.where(cut, cutmix, mixup)
        share = random.beta(alphas, alphas)
        rows, columns = (
            np.where(cut[:, None], _inside(random.rand(count), np.sqrt(share), side), full[:, None])
            for side, full in ((height, share), (width, np.ones(count)))
        )
        return Mix(partners, rows.astype(np.float32), columns.astype(np.float32))

    def mixed_labels(self, mix: Mix, labels: np.ndarray) -> np.ndarray:
        """The labels (N,) of a batch as shares (N, classes) float32, of sum 1."""
        shares = mix.shares
        mixed = np.zeros((len(labels), self.classes), np.float32)
        each = np.arange(len(labels))
        mixed[each, labels] = 1 - shares
        mixed[each, labels[mix.partners]] += shares
        return mixed


def _inside(centres: np.ndarray, lengths: np.ndarray, side: int) -> np.ndarray:
    """(N, side): 1 inside an interval around a centre, clipped at the ends; both in [0, 1]."""
    length = np.round(lengths * side)[:, None]
    start = np.round(centres[:, None] * side - length / 2)
    at = np.arange(side)
    return (at >= start) & (at < start + length)
