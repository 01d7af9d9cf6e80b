"""Where to attach auxiliary losses to a trunk, and where their flows should meet.

The K losses stand as evenly as the trunk allows above its lowest third, by progress (the mean of
depth and work), at the ends of stages; if these are too far from even, at the ends of blocks. A
loss trains down to the beginning of the stage at whose end the loss below it hangs, which both then
train.
"""

from collections import namedtuple

from ..errors import RelayError
from .trunk import has_weights, is_spatial

LOWEST = 1 / 3  # of the trunk: too early for a loss
TOLERANCE = 0.15  # how far from its ideal place a stage's end may lie

# hung: the units that auxiliary losses hang on, shallow to deep; lowest: for these and for the
# final loss, the unit that each trains down to
Proposal = namedtuple("Proposal", "hung lowest")


def propose(trunk, count):
    """A Proposal for `count` auxiliary losses."""
    if count < 1:
        raise RelayError(f"--auto {count}: expected 1 or more auxiliary losses")
    ideal = [LOWEST + (1 - LOWEST) * k / (count + 1) for k in range(1, count + 1)]
    ends = [stage[-1] for stage in trunk.stages if _can_hang(trunk, stage[-1])]
    blocks = [unit for unit in trunk.units if _can_hang(trunk, unit)]
    hung = _nearest(trunk, ends, ideal)
    if not hung or any(
        abs(trunk.progress(unit) - place) > TOLERANCE for unit, place in zip(hung, ideal)
    ):
        hung = _nearest(trunk, blocks, ideal)
    if not hung:
        raise RelayError(
            f"--auto {count}: the trunk has {len(blocks)} places for a loss above its "
            "lowest third; ask for fewer"
        )
    first = next(unit for unit in trunk.units if has_weights(trunk.graph, unit))
    below = [None, *hung]
    return Proposal(hung, [first] + [_meeting(trunk, below[k], below[k + 1]) for k in range(count)])


def _can_hang(trunk, unit):
    """Whether a unit is a map, above the lowest third, with convolutions still to come."""
    return (
        is_spatial(unit)
        and trunk.progress(unit) >= LOWEST
        and any(
            is_spatial(other) and has_weights(trunk.graph, other)
            for other in trunk.units[unit.index + 1 :]
        )
    )


def _nearest(trunk, units, ideal):
    """One unit for each ideal place, in order, with the least sum of distances; [] if too few."""
    best = [(0.0, [])] + [None] * len(ideal)
    for unit in units:
        for k in range(len(ideal), 0, -1):
            if best[k - 1] is not None:
                cost = best[k - 1][0] + abs(trunk.progress(unit) - ideal[k - 1])
                if best[k] is None or cost <= best[k][0]:
                    best[k] = (cost, best[k - 1][1] + [unit])
    return best[-1][1] if best[-1] else []


def _meeting(trunk, below, hung):
    """The unit down to which the next higher loss trains: the beginning of the stage of `hung`.

    Where another loss hangs in that stage, the beginning of the upper half between the two.
    """
    start = next(unit for unit in trunk.stage_of(hung) if has_weights(trunk.graph, unit))
    if below is not None and start.index <= below.index:
        start = trunk.units[(below.index + hung.index + 1) // 2]
    while not has_weights(trunk.graph, start):
        start = trunk.units[start.index + 1]
    return start
