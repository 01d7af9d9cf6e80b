"""Which layers are in a net: their include and exclude rules, read as Caffe's FilterNet does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from .errors import LayerError

TRAIN, TEST = 0, 1  # of caffe.proto's enum Phase


class State(NamedTuple):
    """What a net is built for; a NetState message has the same fields and can stand in for it."""

    phase: int
    level: int = 0
    stage: Collection[str] = ()


def state_of(
    net_param: Any, phase: int, level: int | None = None, stages: Collection[str] = ()
) -> State:
    """The State of a NetParameter: the stages of its own `state`, then the given ones.

    level: None for that of its own `state`.
    """
    own = net_param.state
    return State(
        phase, own.level if level is None else level, tuple(dict.fromkeys([*own.stage, *stages]))
    )


def layers_of(net_param: Any, state: State) -> list[Any]:
    """The layers of a NetParameter that are in the net of `state`, in their order."""
    return [layer for layer in net_param.layer if is_in_net(layer, state)]


def is_in_net(layer: Any, state: State) -> bool:
    """Whether a LayerParameter is in the net of `state`.

    If there are include rules, one of them must hold; if there are exclude rules, none. Raises
    LayerError for a layer that has both kinds.
    """
    if layer.include and layer.exclude:
        raise LayerError(f"layer {layer.name!r} has both include and exclude rules; give one kind")
    if layer.include:
        return any(_meets(state, rule) for rule in layer.include)
    return not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: Any, rule: Any) -> bool:
    """Whether a state satisfies one NetStateRule; an absent field is always satisfied."""
    return not (
        (rule.HasField("phase") and rule.phase != state.phase)
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or any(stage not in state.stage for stage in rule.stage)
        or any(stage in state.stage for stage in rule.not_stage)
    )
