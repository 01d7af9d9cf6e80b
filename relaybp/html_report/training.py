"""What training has reported: curves, the state of a run, and what a probe has measured."""

from __future__ import annotations

from typing import Any

from ..cli import command, more
from ..errors import RelayError
from ..figures.run_tables import spread
from ..lock import state_of
from .source import Source

POINTS = 1500  # of a curve, at most
PROBES = 24  # iterations of a probe, at most
METHODS = {
    "STANDARD": "standard BP",
    "JOINT": "multi-loss + standard BP",
    "RELAY": "Relay BP",
    "PAIR_WISE": "pair-wise BP",
    "MULTI_WAY": "multi-way BP",
}


def overview(source: Source) -> dict[str, Any]:
    """What the run is, how far it got and which errors were measured."""
    record = source.record or {"identity": {}}
    found = record["identity"]
    return {
        "path": source.folder,
        "evaluate": command("evaluate", source.folder),
        "model": found.get("model", {}).get("name", source.name),
        "method": METHODS.get(found.get("method", {}).get("schedule", ""), "not recorded"),
        "state": state_of(source.folder) or "not recorded",
        "iteration": last_iteration(source),
        "iterations": int(found.get("settings", {}).get("max_iter", 0)) or None,
        "images": found.get("batch", {}).get("images"),
        "commit": record.get("commit"),
        "tests": tests(source),
        "results": [
            {
                "protocol": result.protocol,
                "errors": result.errors,
                "images": result.images,
                "weights": result.weights.get("file", ""),
            }
            for result in source.results
        ],
    }


def last_iteration(source: Source) -> int:
    """The last iteration that any row of metrics.csv is of."""
    return max((max(curve) for curve in source.tables.curves.values()), default=0)


def tests(source: Source) -> dict[str, dict[str, float]]:
    """{accuracy: {last, best: errors in %, at: the iteration of the best}} of tests in training."""
    found = {}
    for (kind, name), curve in source.tables.curves.items():
        if kind == "test" and name.startswith("accuracy"):
            errors = {iteration: 100 * (1 - value) for iteration, value in curve.items()}
            best = min(errors, key=lambda iteration: errors[iteration])
            found[name] = {"last": errors[max(errors)], "best": errors[best], "at": best}
    return found


def curves(source: Source) -> dict[str, Any]:
    """{"train": {name: [[iteration, value], ...]}, "test": ...}; long ones are thinned."""
    if not source.tables.curves:
        raise RelayError("nothing reported yet: training writes a row every `display` iterations")
    found: dict[str, Any] = {"train": {}, "test": {}}
    for (kind, name), curve in source.tables.curves.items():
        found[kind][name] = [list(point) for point in spread(sorted(curve.items()), POINTS)]
    return found


def gradients(source: Source) -> dict[str, Any]:
    """What --probe has measured: {"layers", "iterations", quantity: {flow: rows}}.

    A row holds the values of the layers at one of the iterations, None where the flow does not
    reach a layer. Between the trunk and the branches a layer "" without values keeps them apart.
    """
    tables = source.tables
    layers = apart(tables.parts)
    if not layers:
        raise RelayError(
            f"not probed: a training with `{more('--probe 10%')}`, in a folder of its own, "
            "measures what each loss does to each layer"
        )
    probed = tables.measured("gradient")["all"]
    iterations = spread(sorted(probed), PROBES)
    found: dict[str, Any] = {"layers": layers, "iterations": iterations}
    for quantity in ("gradient", "relative", "share", "cosine"):
        found[quantity] = {
            flow: [[values.get(at, {}).get(layer) for layer in layers] for at in iterations]
            for flow, values in tables.measured(quantity).items()
        }
    return found


def apart(parts: dict[str, list[str]]) -> list[str]:
    """The layers of the trunk and of each branch, with "" between them."""
    found: list[str] = []
    for part in sorted(parts, key=lambda part: part != "trunk"):
        found += ["", *parts[part]] if found else parts[part]
    return found
