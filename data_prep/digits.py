"""Randomly drawn digits for the examples, in the form of MNIST's, with no download."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 28  # pixels
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)


def draw_digit(digit: int, rng: np.random.RandomState) -> np.ndarray:
    """One (28, 28) uint8 picture, white on black: its own font, size, slant, place and noise."""
    large = np.zeros((4 * SIDE, 4 * SIDE), np.uint8)
    font, thickness = FONTS[rng.randint(len(FONTS))], int(rng.randint(6, 13))
    cv2.putText(large, str(digit), (24, 90), font, 3.2, 255, thickness, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((56, 56), rng.uniform(-15, 15), rng.uniform(0.75, 1.05))
    turn[:, 2] += rng.uniform(-10, 10, 2)
    large = cv2.warpAffine(large, turn, large.shape)
    small = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(small + rng.normal(0, 12, small.shape), 0, 255).astype(np.uint8)


def draw_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 1, 28, 28) uint8 and their labels (count,), all digits alike, shuffled."""
    rng = np.random.RandomState(seed)
    labels = rng.permutation(np.arange(count) % 10)
    return np.stack([draw_digit(label, rng) for label in labels])[:, None], labels
