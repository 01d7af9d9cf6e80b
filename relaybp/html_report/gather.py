"""Everything that a report shows, as one value of plain Python, from the folders of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Callable

from caffe_plain.errors import CaffeError
from caffe_plain.snapshots import RECORD

from .. import colours, identity
from . import inside, network, outcome, training
from .source import Source

Panel = Callable[[Source], dict[str, Any]]
PANELS: dict[str, Panel] = {
    "curves": training.curves,
    "network": network.network,
    "gradients": training.gradients,
    "classes": outcome.classes,
    "confusion": outcome.confusion,
    "examples": inside.examples,
    "filters": inside.filters,
    "responses": inside.responses,
}
FIRST_FLOW = "flow {"
FLOW = re.compile(r'flow { loss: "([^"]*)" to: "([^"]*)" }')
FILES = ("solver.prototxt", "relay.prototxt", "extra.prototxt", "train_val.prototxt", RECORD)


def gather(engine: Any, folders: Sequence[str]) -> dict[str, Any]:
    """What the page's scripts read: {"runs", "losses", "differences"}.

    runs: of each run its name, its colour, `training.overview`, the panels, and the files that
    describe it; a panel that cannot be filled is {"missing": why, and which command would fill it}.
    losses: {name: colour} of all runs, differences: see `differences`.
    """
    sources = [Source(engine, folder) for folder in folders]
    names = unique_names([source.name for source in sources], folders)
    runs: list[dict[str, Any]] = [
        {
            "name": name,
            "colour": themed(colours.of_run(number)),
            "overview": training.overview(source),
            "files": files(source.folder),
            **{title: filled(panel, source) for title, panel in PANELS.items()},
        }
        for number, (name, source) in enumerate(zip(names, sources))
    ]
    losses = {loss for source in sources for loss in source.losses}
    for run in runs:
        losses.update(flow["loss"] for flow in run["network"].get("flows", ()))
    return {"runs": runs, "losses": colours.of_losses(losses), "differences": differences(sources)}


def themed(colour: str) -> str:
    """A colour for both themes: ink is dark on light, and light on dark."""
    return "var(--ink)" if colour == colours.INK else colour


def filled(panel: Panel, source: Source) -> dict[str, Any]:
    """What a panel shows of a run, or why it cannot."""
    try:
        return panel(source)
    except (CaffeError, OSError) as error:
        return {"missing": str(error)}


def unique_names(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The names of the folders; their paths where two have the same name."""
    same = len(set(names)) < len(names)
    return [os.path.normpath(folder) for folder in folders] if same else list(names)


def differences(sources: Sequence[Source]) -> list[list[str]]:
    """[what, its value in each run] of all that the runs' identities do not have in common."""
    flat = [_identity(source) for source in sources]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [[key, *(_text(each.get(key)) for each in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _identity(source: Source) -> dict[str, Any]:
    """What the run is, {name: value}; the relay file by what it says, not by its checksum."""
    found = identity.flat(source.record["identity"]) if source.record else {}
    if found.get("method.relay"):
        text = " ".join(str(source.relay).split())  # the schedule stands in a row of its own
        found["method.relay"] = FLOW.sub(r"\1 to \2;", text[text.find(FIRST_FLOW) :]).rstrip(";")
    return found


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def files(folder: str) -> dict[str, str]:
    """{name: text} of the files that describe a run."""
    found = {}
    for name in FILES:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                found[name] = file.read()
    return found
