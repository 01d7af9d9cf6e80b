"""What this project adds to a solver, in a file beside the solver's own: see extra.proto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .messages import read_messages

MESSAGES = read_messages(Path(__file__).with_name("extra.proto"))
ExtraParameter = MESSAGES["ExtraParameter"]
POLICIES = ("plateau", "cosine")  # what its lr_policy can be
# the others only say how
_ACTING = (
    "lr_policy",
    "rampup_interval",
    "label_smoothing",
    "skip_damaged",
    "early_stopping",
    "ema_decay",
)


def in_force(extra: Any) -> list[str]:
    """The fields of an ExtraParameter by which training differs from Caffe's."""
    return [field.name for field, _ in extra.ListFields() if field.name in _ACTING]
