"""A run that goes on in another number of processes, and so perhaps with another batch.

That is allowed, for a cluster may have fewer machines today, and it is said and recorded: such a
run is neither one of the processes before nor one of those after.
"""

from __future__ import annotations

from typing import Any

BEFORE = "before"  # of a run's identity["batch"]: in words, what it was trained with before

Batch = dict[str, Any]


def is_allowed(found: Batch, wanted: Batch) -> bool:
    """Whether a run of the batch `found` may go on with the batch `wanted`."""
    now = _now(found)
    return now == wanted or now.get("processes") != wanted.get("processes")


def record(found: Batch, wanted: Batch, iteration: int) -> Batch:
    """The batch of a run that goes on from an iteration with the batch `wanted`."""
    now, before = _now(found), found.get(BEFORE, "")
    if now != wanted and iteration:
        before += f"{now['images']} images in {_many(now)} up to iteration {iteration}; "
    return {**wanted, BEFORE: before} if before else wanted


def describe(found: Batch, wanted: Batch) -> str:
    """One line on what changes; "" where nothing does."""
    now = _now(found)
    if now == wanted:
        return ""
    return (
        f"In {_many(wanted)} instead of {now['processes']}: an update takes {wanted['images']} "
        f"images instead of {now['images']}"
    )


def _now(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != BEFORE}


def _many(batch: Batch) -> str:
    return f"{batch['processes']} process" + "es" * (batch["processes"] > 1)
