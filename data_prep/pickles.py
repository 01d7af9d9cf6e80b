"""Pickles of Python 2 that hold dicts, lists, strings and numpy arrays, and run no code.

A pickle can call any Python function while it is read. Only the three that build an array are
allowed here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from relaybp.data_prep.errors import PrepError

_ARRAY = np.empty(0).__reduce__()[0]  # numpy's _reconstruct: its module depends on the version
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no data needs")


def read_pickle(path: str | Path, keys: list[str]) -> list:
    """The values of `keys` in the dict that a file holds; strings in it are bytes."""
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        return [content[key.encode()] for key in keys]
    except KeyError as error:
        raise PrepError(f"{path} holds no {error}: expected {', '.join(keys)}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise PrepError(f"{path}: not a readable pickle ({error}): download it again") from error
