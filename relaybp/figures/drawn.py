"""A figure that is ready to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """caption: what it shows and how it was measured; header, rows: the numbers behind it."""

    figure: Figure
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
