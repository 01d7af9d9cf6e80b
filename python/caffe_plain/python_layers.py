"""Whose code a prototxt may run: the modules that its Python layers can name.

A Python layer imports a module by name, and whatever can be imported would run. In a user's own
script that is so, as in pycaffe. Inside `restricted()`, as in the commands, a module must lie

- in the project's own layers (relaybp.layers),
- in the folder of the prototxt that names it, or
- in a folder that the user allows: an argument, or the variable CAFFE_PYTHON_LAYERS.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from .errors import PythonLayerError

VARIABLE = "CAFFE_PYTHON_LAYERS"  # folders, separated as in PYTHONPATH; processes inherit it
OWN = "relaybp.layers"

# (module, class) of well-known projects: the class that runs where the module is not there
STAND_INS: dict[tuple[str, str], type] = {}

_allowed: list[str] | None = None  # None: any module


@contextmanager
def restricted(folders: str = "") -> Iterator[None]:
    """Inside, `admit` refuses modules from elsewhere; `folders`: more that are allowed.

    They are separated as in PYTHONPATH. Processes that are started inside inherit them.
    """
    global _allowed
    before = _allowed, os.environ.get(VARIABLE)
    named = os.pathsep.join(filter(None, [folders, os.environ.get(VARIABLE)]))
    _allowed = [os.path.realpath(folder) for folder in named.split(os.pathsep) if folder]
    os.environ[VARIABLE] = os.pathsep.join(_allowed)
    try:
        yield
    finally:
        _allowed = before[0]
        if before[1] is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before[1]


def admit(net: Any, path: str | os.PathLike) -> None:
    """Make the modules that a NetParameter's Python layers name importable, or refuse them.

    path: the prototxt that holds it; its folder is allowed from here on. Nothing is imported.
    Outside `restricted()` this does nothing. Raises PythonLayerError.
    """
    layers = [layer for layer in net.layer if layer.type == "Python"]
    if _allowed is None or not layers:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if folder not in _allowed:
        _allowed.insert(0, folder)
    for layer in layers:
        options = layer.python_param
        check(layer.name, options.module, options.layer, f"{path}: ")


def check(layer: str, module: str, name: str, where: str = "") -> None:
    """Refuse a module that lies in no allowed folder; put the folder of another on Python's path.

    name: of the class in it; where: what the error begins with. Outside `restricted()` this does
    nothing.
    """
    if _allowed is None or module == OWN or module.startswith(OWN + "."):
        return
    top, allowed = module.partition(".")[0], _allowed
    for folder in allowed:
        if top and PathFinder.find_spec(top, [folder]) and sys.path[0] != folder:
            sys.path.insert(0, folder)
            break
    if stand_in(module, name):
        return
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:  # the running program itself
        spec = ModuleSpec(top, None)
    if spec is None or (homes := _homes(spec)) and homes.issubset(allowed):
        return  # what is nowhere is an error when it is imported
    found = " and ".join(sorted(homes)) or "Python itself"
    raise PythonLayerError(
        f"{where}layer {layer!r} (Python): module {module!r} lies in {found}. A prototxt may name "
        f"only modules of {OWN}, of its own folder and of folders that you allow; if you trust "
        f"this one: -python_layers FOLDER, or {VARIABLE}=FOLDER"
    )


def stand_in(module: str, name: str) -> type | None:
    """What runs in place of a well-known class that is not on Python's path, or None."""
    known = STAND_INS.get((module, name))
    return None if known is None or _is_there(module) else known


def _is_there(module: str) -> bool:
    """Whether Python's path holds a module; nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for end in range(1, len(rest) + 1):
        if spec is None:
            break
        name = ".".join([top, *rest[:end]])
        spec = PathFinder.find_spec(name, spec.submodule_search_locations or [])
    return spec is not None


def _homes(spec: ModuleSpec) -> set[str]:
    """The folders that hold a module; a package without __init__.py may lie in several."""
    if spec.submodule_search_locations is not None:
        places = list(spec.submodule_search_locations)
    else:
        places = [spec.origin] if spec.has_location and spec.origin else []
    return {os.path.dirname(os.path.realpath(place)) for place in places}
