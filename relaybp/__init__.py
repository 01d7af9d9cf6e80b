"""Relay Backpropagation: each loss trains its own range of layers; this package is the driver.

    solver = caffe.get_solver("solver.prototxt")
    relay = relaybp.attach(solver, "relay.prototxt")
    relay.step(100)

Runs on any pycaffe: this repository's engine or an original BVLC Caffe, Python 3.9 or newer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .relay_solver import RelaySolver, attach

__all__ = ["RelaySolver", "attach"]

# Installed, `layers`, `data_prep` and `prototxt` lie in this package; in a checkout, beside it.
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.exists(os.path.join(_CHECKOUT, "pyproject.toml")):
    __path__.append(_CHECKOUT)


def __getattr__(name: str) -> Any:
    """Import `attach` and its class on first use: workers that only load images need no driver."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import relay_solver

    return getattr(relay_solver, name)
