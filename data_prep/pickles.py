"""Pickles of Python 2 that hold dicts, lists, strings and numpy arrays, and run no code.

A pickle can call any Python function while it is read, and give numpy's own a state that makes it
follow wild pointers. Here it calls nothing outside this file: the three names that build an array
stand for `_Array` and `_Type`, which only remember bytes and a plain number type.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from relaybp.data_prep.errors import PrepError


class _Type:
    """What a pickle says of an array's numbers, such as "u1"."""

    def __init__(self, name: Any, *flags: Any):
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        if not re.fullmatch(r"[biuf][1248]", self.name):
            raise pickle.UnpicklingError(f"an array of {self.name!r}; expected plain numbers")

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else str(state[1])
        self.name = order.replace("|", "=") + self.name


class _Array:
    """An array of plain numbers: its `values`, once the pickle has been read."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, data = state
        flat = np.frombuffer(data, np.dtype(kind.name))
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


def _make_array(*arguments: Any) -> _Array:
    return _Array()


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy._core.multiarray", "_reconstruct"): _make_array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no data needs")


def read_pickle(path: str | Path, keys: list[str]) -> list:
    """The values of `keys` in the dict that a file holds; strings in it are bytes."""
    try:
        data = Path(path).read_bytes()
        _check_memo(data)
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        found = [content[key.encode()] for key in keys]
    except KeyError as error:
        raise PrepError(f"{path} holds no {error}: expected {', '.join(keys)}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise PrepError(f"{path}: not a readable pickle ({error}): download it again") from error
    return [value.values if isinstance(value, _Array) else value for value in found]


def _check_memo(data: bytes) -> None:
    """Refuse numbers of remembered values for which Python would make a table of gigabytes."""
    for operation, argument, place in pickletools.genops(data):
        if "PUT" in operation.name and int(argument) > len(data):
            raise pickle.UnpicklingError(f"value number {argument} at byte {place}")
