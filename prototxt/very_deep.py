"""Where to attach several auxiliary branches to a very deep residual network."""

from __future__ import annotations

from collections.abc import Sequence

from .resnet import block_name

BRANCHES = 4


def relay(counts: Sequence[int], overlap: int) -> tuple[list[str], dict[str, str]]:
    """(blocks to hang aux1, aux2, ... on, flows) of a network with `counts` blocks per stage.

    The first branch is a third of the way up; the others are spaced evenly above it. Each loss
    trains down to `overlap` blocks below the branch of the next lower loss, whose loss trains them
    as well.
    """
    names = [
        block_name(stage, index, count)
        for stage, count in enumerate(counts, 2)
        for index in range(count)
    ]
    ends = [round(len(names) * (1 / 3 + 2 / 3 * k / BRANCHES)) for k in range(BRANCHES)]
    hung = [names[end - 1] for end in ends]
    losses = [f"aux{k}_loss" for k in range(1, BRANCHES + 1)] + ["loss"]
    lowest = ["conv1"] + [names[end - overlap] for end in ends]
    return hung, dict(zip(reversed(losses), reversed(lowest)))


def table(hung: Sequence[str], flows: dict[str, str]) -> str:
    """The readme's table of the losses and their reach."""
    where = ["the top"] + [f"`{block}`" for block in reversed(hung)]
    rows = [
        f"| `{loss}` | {place} | `{lowest}` |\n"
        for place, (loss, lowest) in zip(where, flows.items())
    ]
    return "| loss | attached to | trains down to |\n|---|---|---|\n" + "".join(rows)
