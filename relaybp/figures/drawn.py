"""A figure that is ready to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ..reproduce.produce import Production


def about(production: Production, networks: str) -> str:
    """What was trained on what, in two short sentences."""
    titles = "; ".join(found.title for found in production.data.values())
    return f"Network: {networks}. Data: {titles}."


@dataclass(frozen=True)
class Drawn:
    """caption: what it shows and how it was measured; header, rows: the numbers behind it."""

    figure: Figure
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]
