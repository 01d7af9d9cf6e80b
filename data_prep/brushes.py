"""What scenes are painted with: skies, skylines, colours, and the camera at the end.

Colours are BGR; `rng` is a numpy RandomState, whose stream is the same in every numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = Sequence[float]  # blue, green, red
SIZE = 128  # pixels a side of a picture
CANVAS = 160  # of what is painted, before the camera tilts and crops

SKIES = {  # top and bottom, BGR
    "day": ((205, 140, 70), (235, 210, 175)),
    "overcast": ((165, 160, 155), (205, 205, 200)),
    "sunset": ((120, 70, 80), (90, 150, 240)),
    "dusk": ((90, 50, 40), (150, 110, 140)),
    "night": ((35, 18, 10), (75, 45, 35)),
}


def sky(canvas: np.ndarray, rng: np.random.RandomState, moods: Sequence[str], height: int) -> str:
    """A sky down to `height` with clouds, sun or stars; returns its mood."""
    mood = str(rng.choice(moods))
    top, bottom = (jitter(rng, color) for color in SKIES[mood])
    gradient(canvas, 0, height, top, bottom)
    if mood == "night":
        for _ in range(rng.randint(5, 40)):
            canvas[rng.randint(height), rng.randint(CANVAS)] = rng.randint(120, 230)
        return mood
    if mood in ("day", "sunset") and rng.rand() < 0.4:
        center = (rng.randint(10, 150), rng.randint(10, max(12, height - 10)))
        cv2.circle(canvas, center, rng.randint(5, 11), (190, 240, 255), -1, cv2.LINE_AA)
    cover = clouds(rng) - rng.uniform(0.45, 0.8)
    alpha = np.clip(4 * cover, 0, 0.85)[:height, :, None]
    white = np.array(bottom) * 0.3 + 165
    canvas[:height] = (canvas[:height] * (1 - alpha) + white * alpha).clip(0, 255)
    return mood


def clouds(rng: np.random.RandomState) -> np.ndarray:
    """Smooth noise in [0, 1] over the canvas, stretched sideways."""
    layers = [
        cv2.resize(rng.rand(2 * cells, cells), (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
        / (k + 1)
        for k, cells in enumerate((4, 8, 16, 32))
    ]
    total = sum(layers)
    return (total - total.min()) / np.ptp(total)


def ridge(rng: np.random.RandomState, height: float, octaves: int = 4) -> np.ndarray:
    """A random skyline (CANVAS,) of about +- `height` pixels, finer with more octaves."""
    x = np.linspace(0, 1, CANVAS)
    line = np.zeros(CANVAS)
    for k in range(octaves):
        points = 2 ** (k + 1) + 1
        line += np.interp(x, np.linspace(0, 1, points), rng.uniform(-1, 1, points)) / 2**k
    if octaves < 3:  # dunes and waves are round
        line = cv2.GaussianBlur(line[None], (0, 0), 6)[0]
    return line * height


def gradient(canvas: np.ndarray, top: int, bottom: int, first: Color, last: Color) -> None:
    """Fill the rows from `top` to `bottom`, from one colour to the other."""
    t = np.linspace(0, 1, max(bottom - top, 1))[:, None, None]
    colors = np.array(first) * (1 - t) + np.array(last) * t
    canvas[top:bottom] = colors.clip(0, 255)[: bottom - top]


def ground(canvas: np.ndarray, skyline: np.ndarray, color: Color) -> None:
    """Fill everything below the skyline (CANVAS,), a little darker downwards."""
    below = np.arange(CANVAS)[:, None] - np.broadcast_to(skyline, CANVAS)
    shade = np.clip(1 - below / 400, 0.6, 1)[..., None] * np.array(color)
    mask = below >= 0
    canvas[mask] = shade.clip(0, 255)[mask]


def polygon(canvas: np.ndarray, points: Sequence[tuple[float, float]], color: Color) -> None:
    """Fill a polygon of (x, y) points."""
    cv2.fillPoly(canvas, [np.array(points).round().astype(np.int32)], color, cv2.LINE_AA)


def shade(color: Color, factor: float) -> Color:
    """The colour, brighter or darker by a factor."""
    return tuple(float(np.clip(c * factor, 0, 255)) for c in color)


def jitter(rng: np.random.RandomState, color: Color) -> Color:
    """A colour near `color`."""
    return tuple(float(np.clip(c + rng.normal(0, 9), 0, 255)) for c in color)


def any_color(rng: np.random.RandomState) -> Color:
    """Paint, cloth or fish: any colour that is neither black nor white."""
    return tuple(float(c) for c in rng.randint(30, 240, 3))


def photograph(canvas: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Tilt, zoom, mirror and crop; then the air, the light, the film and the sensor."""
    zoom = rng.uniform(1.0, 1.8) * SIZE / 125
    view = cv2.getRotationMatrix2D((CANVAS / 2, CANVAS / 2), rng.normal(0, 5), zoom)
    view[:, 2] += rng.uniform(-30, 30, 2) * (zoom - 0.8) - (CANVAS - SIZE) / 2
    picture = cv2.warpAffine(
        canvas, view, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)
    if rng.rand() < 0.5:
        picture = picture[:, ::-1]
    haze = rng.uniform(0, 0.5) * rng.rand()
    picture = picture * (1 - haze) + haze * rng.uniform(60, 200)
    if rng.rand() < 0.2:  # black and white
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    picture = picture * rng.uniform(0.5, 1.3) * rng.normal(1, 0.08, 3)  # exposure, white balance
    grain = cv2.resize(rng.normal(0, 1, (SIZE // 2, SIZE // 2)), (SIZE, SIZE))
    picture += 6 * grain[..., None] + rng.normal(0, rng.uniform(1, 12), picture.shape)
    if rng.rand() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.5))
    return picture.clip(0, 255).astype(np.uint8)
