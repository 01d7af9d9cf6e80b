"""What stands in drawn scenes: snow, trees, towers, cars, furniture, fish, corals."""

from __future__ import annotations

import cv2
import numpy as np

from relaybp.data_prep.brushes import CANVAS, Color, any_color, jitter, polygon, ridge, shade


def snow(canvas: np.ndarray, peaks: np.ndarray, rng: np.random.RandomState, light: float) -> None:
    """White above a ragged line, on the mountain that was drawn last."""
    y = np.arange(CANVAS)[:, None]
    line = peaks.min() + rng.uniform(8, 28) + ridge(rng, 6, octaves=5)
    canvas[(y >= peaks) & (y < line)] = shade((240, 238, 235), light)


def leaves(
    canvas: np.ndarray, rng: np.random.RandomState, x: int, y: int, color: Color, depth: float
) -> None:
    """Five tufts around (x, y), larger the nearer: depth is 0 far away and 1 in front."""
    for _ in range(5):
        spot = (int(x + rng.randint(-14, 15)), int(y + rng.randint(-9, 10)))
        cv2.circle(
            canvas,
            spot,
            int(2 + rng.randint(2, 8) * (0.5 + depth / 2)),
            jitter(rng, color),
            -1,
            cv2.LINE_AA,
        )


def pine(
    canvas: np.ndarray, rng: np.random.RandomState, foot: int, light: float, x: int | None = None
) -> None:
    """A pine with its foot in this row, at x or anywhere."""
    x = rng.randint(CANVAS) if x is None else x
    height = rng.randint(18, 45)
    color = shade(jitter(rng, (45, 75, 40)), light)
    for tier in range(3):
        top, half = foot - height + tier * height // 4, (tier + 2) * height // 14
        polygon(
            canvas, [(x, top), (x - half, top + height // 2), (x + half, top + height // 2)], color
        )


def palm(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    """A palm with its foot in the lower half."""
    x, foot, top = rng.randint(10, 150), rng.randint(120, 150), rng.randint(40, 70)
    head = (x + rng.randint(-15, 16), top)
    cv2.line(canvas, (x, foot), head, (50, 75, 95), 3, cv2.LINE_AA)
    for angle in range(0, 360, 45):
        cv2.ellipse(
            canvas, head, (20, 6), angle + rng.randint(20), 0, 150, (45, 110, 50), 2, cv2.LINE_AA
        )


def cactus(canvas: np.ndarray, rng: np.random.RandomState, foot: int) -> None:
    """A cactus with up to two arms and its foot in this row."""
    x, height, color = rng.randint(CANVAS), rng.randint(15, 40), jitter(rng, (60, 105, 65))
    cv2.line(canvas, (x, foot), (x, foot - height), color, 5, cv2.LINE_AA)
    for side in (-8, 8):
        if rng.rand() < 0.7:
            y = foot - rng.randint(height // 3, height * 2 // 3)
            points = np.array([(x, y), (x + side, y), (x + side, y - height // 3)])
            cv2.polylines(canvas, [points], False, color, 3, cv2.LINE_AA)


def tower(
    canvas: np.ndarray,
    rng: np.random.RandomState,
    x: int,
    top: int,
    width: int,
    street: int,
    depth: float,
) -> None:
    """A tower from the row `top` down to the street, some of its windows lit."""
    wall = shade(jitter(rng, (55, 42, 38)), 1.3 - depth * 0.8)
    cv2.rectangle(canvas, (x, top), (x + width, street), wall, -1)
    lit, warm = rng.uniform(0.2, 0.7), jitter(rng, (120, 200, 245))
    for wy in range(top + 3, street - 2, 5):
        for wx in range(x + 2, x + width - 2, 4):
            if rng.rand() < lit:
                cv2.rectangle(canvas, (wx, wy), (wx + 1, wy + 2), shade(warm, depth), -1)


def along(vanish: float, horizon: int, near: float, t: float, side: float) -> tuple[float, float]:
    """A point on the road's middle line, t = 0 at the horizon and 1 at the camera."""
    return vanish + (near - vanish) * t + side * t, horizon + (CANVAS - horizon) * t


def car(
    canvas: np.ndarray, rng: np.random.RandomState, vanish: int, horizon: int, near: int, mood: str
) -> None:
    """A car on one side of the road, with its lights on."""
    t = rng.uniform(0.15, 0.6)
    x, y = (int(v) for v in along(vanish, horizon, near, t, 0))
    size = max(3, int(26 * t))
    x += int(rng.choice([-1, 1]) * 30 * t)
    color = shade(any_color(rng), 0.4 if mood == "night" else 1)
    cv2.rectangle(canvas, (x - size, y - size), (x + size, y), color, -1)
    cv2.rectangle(
        canvas,
        (x - size * 2 // 3, y - size * 8 // 5),
        (x + size * 2 // 3, y - size),
        shade(color, 0.6),
        -1,
    )
    for side in (-1, 1):
        cv2.circle(
            canvas,
            (x + side * size * 3 // 4, y - size // 2),
            max(1, size // 5),
            [(60, 60, 240), (220, 245, 250)][rng.randint(2)],
            -1,
        )


def furniture(canvas: np.ndarray, rng: np.random.RandomState, floor: int) -> None:
    """A sofa or a table, a little below the row where the floor begins."""
    x, width = rng.randint(-10, 120), rng.randint(25, 65)
    y, color = floor + rng.randint(5, 25), any_color(rng)
    if rng.rand() < 0.5:  # a sofa
        cv2.rectangle(canvas, (x, y - 28), (x + width, y), shade(color, 0.8), -1)
        cv2.rectangle(canvas, (x - 4, y - 14), (x + width + 4, y), color, -1)
    else:  # a table
        cv2.rectangle(canvas, (x, y - 20), (x + width, y - 16), (45, 75, 115), -1)
        for leg in (x + 2, x + width - 2):
            cv2.line(canvas, (leg, y - 16), (leg, y + 6), (40, 65, 100), 2)


def fish(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    """A fish that swims to the left or to the right."""
    x, y, size = rng.randint(CANVAS), rng.randint(10, 130), rng.randint(3, 11)
    color, side = any_color(rng), rng.choice([-1, 1])
    cv2.ellipse(canvas, (x, y), (size, max(2, size // 2)), 0, 0, 360, color, -1, cv2.LINE_AA)
    tail = x - side * size
    polygon(
        canvas,
        [
            (tail + side * 2, y),
            (tail - side * size * 0.6, y - size * 0.5),
            (tail - side * size * 0.6, y + size * 0.5),
        ],
        color,
    )


def coral(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    """A coral of some branches that grows from the ground."""
    x, foot, color = rng.randint(CANVAS), rng.randint(125, 155), any_color(rng)
    for _ in range(rng.randint(3, 8)):
        tip = (x + rng.randint(-12, 13), foot - rng.randint(8, 28))
        cv2.line(canvas, (x, foot), tip, color, rng.randint(1, 4), cv2.LINE_AA)
