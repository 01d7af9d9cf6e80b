"""Which Caffe the driver runs on: this repository's engine, or the one that CAFFE_ROOT names.

Everything that differs between the two is in this folder: `interface.py` declares what the driver
needs; `native.py` and `bvlc.py` implement it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from ..errors import RelayError
from .interface import Engine

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load(root: str | None = None) -> Engine:
    """The engine whose pycaffe lies in `root`/python; register the project's layers with it.

    root: by default $CAFFE_ROOT, else this repository. Its folder goes first on the path, because
    this repository's `caffe` may already be there, beside the `caffe_plain` that both need.
    """
    root = root or os.environ.get("CAFFE_ROOT") or REPOSITORY
    candidates = [os.path.join(root, "python"), root]
    found = [path for path in candidates if os.path.isdir(os.path.join(path, "caffe"))]
    if not found:
        raise RelayError(
            f"CAFFE_ROOT={root}: no pycaffe there; expected a folder caffe in one of: "
            + ", ".join(candidates)
        )
    sys.path.insert(0, found[0])
    import caffe

    engine = of(caffe)
    engine.register_layers()
    return engine


def of(caffe: ModuleType) -> Engine:
    """The engine of an imported `caffe`: only this repository's accepts custom layers."""
    if hasattr(caffe, "register_layer"):
        from .native import Native

        return Native(caffe)
    from .bvlc import Bvlc

    return Bvlc(caffe)
