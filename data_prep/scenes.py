"""Randomly drawn scenes: eight kinds of place, each image with its own weather, season and view.

`draw(kind, rng)` gives one (128, 128, 3) BGR picture. Kinds share skies, trees, water and light,
so that colour alone does not tell them apart.
"""

from __future__ import annotations

from typing import Callable

import cv2
import numpy as np

from relaybp.data_prep import scenery
from relaybp.data_prep.brushes import (
    CANVAS,
    SIZE,
    any_color,
    gradient,
    ground,
    jitter,
    photograph,
    polygon,
    ridge,
    shade,
    sky,
)

Painter = Callable[[np.ndarray, np.random.RandomState], None]
KINDS: dict[str, Painter] = {}


def draw(kind: str, rng: np.random.RandomState) -> np.ndarray:
    """A picture of the kind, with its own camera and light."""
    canvas = np.zeros((CANVAS, CANVAS, 3), np.uint8)
    KINDS[kind](canvas, rng)
    return photograph(canvas, rng)


def draw_record(first_seed: int, size: int, item: tuple[int, str]) -> bytes:
    """The raw pixels (C, size, size) of one image; item: its number and its kind."""
    number, kind = item
    picture = draw(kind, np.random.RandomState((first_seed + number) % 2**32))
    if size != SIZE:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return picture.transpose(2, 0, 1).tobytes()


def _scene(function: Painter) -> Painter:
    KINDS[function.__name__] = function
    return function


@_scene
def beach(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    horizon = rng.randint(45, 75)
    mood = sky(canvas, rng, ("day", "overcast", "sunset", "dusk"), horizon)
    light = 0.6 if mood == "dusk" else 1.0
    sea = shade((rng.randint(110, 200), rng.randint(110, 160), rng.randint(20, 90)), light)
    gradient(canvas, horizon, CANVAS, sea, shade(sea, 1.2))
    for _ in range(rng.randint(8, 25)):
        y = rng.randint(horizon + 2, CANVAS)
        x, length = rng.randint(CANVAS), rng.randint(4, 6 + (y - horizon) // 2)
        cv2.line(canvas, (x, y), (x + length, y), shade(sea, rng.uniform(0.8, 1.6)), 1)
    slope = rng.uniform(-0.4, 0.4)
    shore = rng.randint(95, 125) + slope * (np.arange(CANVAS) - 80) + ridge(rng, 8)
    for offset, color in ((-5, (240, 240, 235)), (0, jitter(rng, (130, 180, 210)))):
        ground(canvas, shore + offset, shade(color, light))
    if rng.rand() < 0.5:
        x, y = rng.randint(20, 140), rng.randint(110, 135)
        cv2.line(canvas, (x, y), (x, y + 18), (60, 80, 90), 1, cv2.LINE_AA)
        cv2.ellipse(canvas, (x, y), (12, 9), 0, 180, 360, any_color(rng), -1, cv2.LINE_AA)
    if rng.rand() < 0.4:
        scenery.palm(canvas, rng)


@_scene
def desert(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    horizon = rng.randint(45, 85)
    mood = sky(canvas, rng, ("day", "day", "sunset", "dusk", "overcast"), horizon + 20)
    sand = shade(jitter(rng, (95, 160, 215)), 0.6 if mood == "dusk" else 1.0)
    for level in np.linspace(0, 1, rng.randint(2, 6)):
        dune = horizon + level * 70 + ridge(rng, 14, octaves=2)
        ground(canvas, dune, shade(sand, 0.7 + 0.4 * level))
        if rng.rand() < 0.7:
            ground(
                canvas,
                dune + rng.randint(6, 14) + ridge(rng, 6, octaves=1),
                shade(sand, 0.85 + 0.4 * level),
            )
    for _ in range(rng.randint(0, 4)):
        scenery.cactus(canvas, rng, rng.randint(100, 150))


@_scene
def forest(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    season = rng.choice(["summer", "autumn", "winter", "dark"])
    leaf = {
        "summer": (50, 120, 60),
        "autumn": (40, 110, 190),
        "winter": (200, 200, 195),
        "dark": (35, 60, 30),
    }[season]
    gradient(canvas, 0, CANVAS, jitter(rng, shade(leaf, 1.3)), shade(leaf, 0.5))
    ground(
        canvas,
        rng.randint(110, 135) + ridge(rng, 6),
        jitter(rng, (225, 225, 225) if season == "winter" else (40, 75, 85)),
    )
    for depth in np.sort(rng.rand(rng.randint(8, 22))):
        x, foot = rng.randint(CANVAS), int(110 + 45 * depth)
        bark = shade(jitter(rng, (70, 85, 105)), 0.4 + 0.6 * depth)
        lean = int(rng.randint(-6, 7) * depth)
        cv2.line(
            canvas,
            (x, foot),
            (x + lean, rng.randint(-10, 30)),
            bark,
            int(2 + 8 * depth),
            cv2.LINE_AA,
        )
        for _ in range(rng.randint(2, 9)):
            scenery.leaves(
                canvas, rng, x, rng.randint(0, 85), shade(leaf, rng.uniform(0.5, 1.4)), depth
            )


@_scene
def mountains(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    mood = sky(canvas, rng, ("day", "overcast", "sunset", "dusk"), 110)
    light = 0.5 if mood == "dusk" else 1.0
    layers = rng.randint(2, 5)
    rock = shade(jitter(rng, (125, 110, 100)), light)
    for level in np.linspace(0, 1, layers):
        peaks = 45 + 55 * level + ridge(rng, 40 * (1 - 0.6 * level), octaves=5)
        ground(canvas, peaks, shade(rock, 1.2 - 0.5 * level))
        if level < 0.7 and rng.rand() < 0.8:
            scenery.snow(canvas, peaks, rng, light)
    bottom = rng.choice(["lake", "meadow", "pines", "none"])
    if bottom == "lake":
        shore = rng.randint(110, 130)
        mirror = canvas[shore : 2 * shore - CANVAS : -1]
        canvas[shore:] = (0.6 * mirror + 0.4 * np.array(jitter(rng, (140, 110, 60)))).astype("u1")
    elif bottom == "meadow":
        ground(canvas, 120 + ridge(rng, 8), shade(jitter(rng, (60, 140, 100)), light))
    elif bottom == "pines":
        for _ in range(rng.randint(4, 12)):
            scenery.pine(canvas, rng, rng.randint(115, 160), light)


@_scene
def road(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    horizon = rng.randint(50, 80)
    mood = sky(canvas, rng, ("day", "overcast", "sunset", "dusk", "night"), horizon + 12)
    light = {"night": 0.3, "dusk": 0.6}.get(mood, 1.0)
    field = [(60, 135, 95), (110, 170, 205), (215, 215, 215), (70, 120, 130)][rng.randint(4)]
    ground(canvas, horizon + ridge(rng, 5), shade(jitter(rng, field), light))
    vanish, near = rng.randint(55, 105), rng.randint(55, 105)
    width = rng.randint(40, 75)
    asphalt = shade(jitter(rng, (95, 92, 90)), light)
    polygon(
        canvas,
        [
            (vanish - 2, horizon),
            (vanish + 2, horizon),
            (near + width, CANVAS),
            (near - width, CANVAS),
        ],
        asphalt,
    )
    paint = shade([(235, 235, 235), (60, 190, 230)][rng.randint(2)], max(light, 0.6))
    for step in range(rng.randint(5, 9)):
        far, close = (0.75 ** (step + 0.45)), 0.75**step
        polygon(
            canvas,
            [
                scenery.along(vanish, horizon, near, t, side)
                for t, side in ((far, -2), (far, 2), (close, 2), (close, -2))
            ],
            paint,
        )
    for _ in range(rng.randint(0, 3)):
        scenery.car(canvas, rng, vanish, horizon, near, mood)
    for _ in range(rng.randint(0, 4)):
        x = rng.randint(0, 45) if rng.rand() < 0.5 else rng.randint(115, 160)
        scenery.pine(canvas, rng, rng.randint(horizon + 10, 125), light, x)


@_scene
def city_night(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    street = rng.randint(118, 150)
    sky(canvas, rng, ("night", "night", "dusk"), street)
    if rng.rand() < 0.4:
        cv2.circle(
            canvas,
            (rng.randint(CANVAS), rng.randint(10, 45)),
            rng.randint(4, 9),
            (205, 225, 230),
            -1,
            cv2.LINE_AA,
        )
    for depth in (0.35, 0.7, 1.0):
        x = rng.randint(-10, 5)
        while x < CANVAS:
            width, height = rng.randint(10, 30), rng.randint(20, int(110 - 45 * depth))
            scenery.tower(canvas, rng, x, street - height, width, street, depth)
            x += width + rng.randint(-3, 8)
    if rng.rand() < 0.5:  # water below
        mirror = cv2.blur(canvas[2 * street - CANVAS : street][::-1], (1, 7))
        canvas[street:] = (mirror * 0.6).astype(np.uint8)
    else:
        gradient(canvas, street, CANVAS, (45, 42, 40), (25, 22, 20))
        for _ in range(rng.randint(4, 14)):
            color = [(60, 60, 230), (190, 235, 250), (120, 200, 250)][rng.randint(3)]
            cv2.circle(canvas, (rng.randint(CANVAS), rng.randint(street + 2, CANVAS)), 1, color, -1)


@_scene
def room(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    floor = rng.randint(95, 125)
    wall = np.array(
        jitter(
            rng, [(190, 200, 210), (150, 170, 190), (140, 120, 90), (120, 160, 130)][rng.randint(4)]
        )
    )
    gradient(canvas, 0, floor, wall, shade(wall, 0.8))
    gradient(canvas, floor, CANVAS, jitter(rng, (70, 100, 140)), jitter(rng, (50, 75, 110)))
    if rng.rand() < 0.7:  # a window, and what can be seen through it
        x, y, w, h = rng.randint(10, 100), rng.randint(10, 30), rng.randint(30, 50), 45
        view = np.zeros((CANVAS, CANVAS, 3), np.uint8)
        sky(view, rng, ("day", "overcast", "dusk", "night"), CANVAS)
        canvas[y : y + h, x : x + w] = view[:h, :w]
        for left, right in ((x, x + w), (x, x + w // 2)):
            cv2.rectangle(canvas, (left, y), (right, y + h), (225, 230, 232), 2)
    for _ in range(rng.randint(0, 4)):  # pictures
        x, y = rng.randint(5, 140), rng.randint(8, 60)
        size = (x + rng.randint(10, 25), y + rng.randint(10, 25))
        cv2.rectangle(canvas, (x, y), size, any_color(rng), -1)
        cv2.rectangle(canvas, (x, y), size, (40, 55, 70), 1)
    for _ in range(rng.randint(1, 4)):
        scenery.furniture(canvas, rng, floor)
    if rng.rand() < 0.5:
        x = rng.randint(20, 140)
        cv2.line(canvas, (x, 0), (x, 22), (40, 40, 40), 1)
        polygon(canvas, [(x - 4, 20), (x + 4, 20), (x + 11, 32), (x - 11, 32)], (150, 225, 250))


@_scene
def underwater(canvas: np.ndarray, rng: np.random.RandomState) -> None:
    top = jitter(rng, [(200, 170, 60), (190, 190, 90), (150, 110, 30)][rng.randint(3)])
    gradient(canvas, 0, CANVAS, top, shade(top, rng.uniform(0.25, 0.6)))
    rays = np.zeros_like(canvas)
    for _ in range(rng.randint(0, 7)):
        x, spread = rng.randint(CANVAS), rng.randint(10, 30)
        polygon(rays, [(x, 0), (x + 8, 0), (x + spread + 25, 130), (x + spread, 130)], (60, 60, 45))
    cv2.add(canvas, cv2.GaussianBlur(rays, (0, 0), 4), canvas)
    if rng.rand() < 0.7:
        bed = rng.randint(115, 145) + ridge(rng, 10)
        ground(canvas, bed, shade(jitter(rng, (130, 150, 140)), rng.uniform(0.5, 0.9)))
        for _ in range(rng.randint(0, 7)):
            scenery.coral(canvas, rng)
    for _ in range(rng.randint(1, 9)):
        scenery.fish(canvas, rng)
    for _ in range(rng.randint(0, 20)):
        cv2.circle(
            canvas,
            (rng.randint(CANVAS), rng.randint(CANVAS)),
            rng.randint(1, 4),
            shade(top, 1.4),
            1,
            cv2.LINE_AA,
        )
