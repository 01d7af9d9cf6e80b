"""The page: a template, its style and its scripts, and the value that they show, in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

STYLES = ("base", "tables", "charts", "network", "classes", "images")
SCRIPTS = (  # in the order in which they need each other
    "dom",
    "state",
    "axis",
    "reading",
    "chart",
    "overview",
    "curves",
    "network",
    "gradients",
    "classes",
    "confusion",
    "images",
    "settings",
    "main",
)
RELOAD_S = 15  # between two looks of a page that is rewritten


def render(facts: dict[str, Any], made: str, watched: bool = False) -> str:
    """The HTML of what `gather` found; made: when, in words; watched: whether it is rewritten."""
    folder = files(__package__) / "page"
    parts = {
        "style": _joined(folder, STYLES, "css"),
        "script": _joined(folder, SCRIPTS, "js"),
        "facts": embedded({**facts, "made": made, "reload_s": RELOAD_S if watched else None}),
    }
    page = (folder / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text)
    return page


def _joined(folder: Any, names: Sequence[str], ending: str) -> str:
    return "\n".join((folder / f"{name}.{ending}").read_text(encoding="utf-8") for name in names)


def embedded(value: Any) -> str:
    """A value as JSON that can stand within a script element; numbers that are not finite: null."""
    return json.dumps(finite(value), separators=(",", ":")).replace("<", "\\u003c")


def finite(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value
