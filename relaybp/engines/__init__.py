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


def load(root: str | None = None) -> Engine:
    """The engine whose pycaffe lies in `root`/python; register the project's layers with it.

    root: by default $CAFFE_ROOT; without either, the path stays as it is and `caffe` is what Python
    finds: the project's own, beside the `caffe_plain` that both engines need.
    """
    root = root or os.environ.get("CAFFE_ROOT")
    if root:  # first on the path, for the project's own `caffe` may be there already
        sys.path.insert(0, _pycaffe(root))
    import caffe

    engine = of(caffe)
    engine.register_layers()
    return engine


def _pycaffe(root: str) -> str:
    """The folder in `root` that holds the package caffe."""
    candidates = [os.path.join(root, "python"), root]
    for path in candidates:
        if os.path.isdir(os.path.join(path, "caffe")):
            return path
    raise RelayError(
        f"CAFFE_ROOT={root}: no pycaffe there; expected a folder caffe in one of: "
        + ", ".join(candidates)
    )


def of(caffe: ModuleType) -> Engine:
    """The engine of an imported `caffe`: only this repository's accepts custom layers."""
    if hasattr(caffe, "register_layer"):
        from .native import Native

        return Native(caffe)
    from .bvlc import Bvlc

    return Bvlc(caffe)
