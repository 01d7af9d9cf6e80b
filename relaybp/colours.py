"""The colours of pictures and plots: those of Okabe and Ito (2008), safe for the colour-blind.

A loss has the same colour wherever its net is shown, a run where several are plotted, and a method
wherever it is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY, BROWN = "#e69f00", "#56b4e9", "#7f7f7f", "#7a5230"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BROWN, GREY)
INK, MUTED, PAPER, LINE, GRID = "#22272e", "#57606a", "#ffffff", "#8b949e", "#d8dee4"
RUNS = (
    INK,
    ORANGE,
    SKY,
    BROWN,
    GREY,
    PURPLE,
    GREEN,
)  # no colour of the first four losses comes early
METHODS = {
    "standard BP": GREY,
    "multi-loss + standard BP": ORANGE,
    "Relay BP": BLUE,
    "joint": ORANGE,
    "pair-wise": GREEN,
    "multi-way": BLUE,
}


def series(number: int) -> str:
    """The colour of thing `number` of several that have no colour of their own."""
    return SERIES[number % len(SERIES)]


def of_run(number: int) -> str:
    """The colour of run `number` of several that are compared.

    Four runs and four losses have eight colours.
    """
    return RUNS[number % len(RUNS)]


def of_losses(names: Iterable[str]) -> dict[str, str]:
    """{loss: its colour} of all losses of a net, by name: the final one first, the deepest next.

    Auxiliary losses are those whose names begin with "aux"; of numbered ones the highest is the
    deepest.
    """
    order = sorted(set(names), key=_natural, reverse=True)
    order.sort(key=lambda name: name.startswith("aux"))  # stable
    return {name: series(number) for number, name in enumerate(order)}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def text_on(fill: str) -> str:
    """INK or PAPER, whichever has more contrast to a fill (by the luminance of WCAG 2)."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(fill[place : place + 2], 16) / 255 for place in (1, 3, 5))
    ]
    luminance = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear))
    return INK if luminance > 0.23 else PAPER


def tint(colour: str, strength: float = 0.42) -> tuple[float, ...]:
    """A colour mixed with paper, as (red, green, blue) from 0 to 1."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return tuple(1 - strength * (1 - part) for part in parts)
