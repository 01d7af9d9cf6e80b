"""Record pycaffe's names and what its helpers compute, for tests/test_pycaffe.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_pycaffe.py [OUT]

writes OUT/pycaffe_names.json, {module or class: {name: signature, or
null where it is no Python function}}, without what a module merely imports; OUT/pycaffe.json and
OUT/pycaffe.npz (default OUT: tests/golden).
"""

import importlib
import inspect
import json
import os
import sys
import tempfile
import types

import numpy as np

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

try:
    import pydot  # noqa: F401
except ImportError:  # caffe.draw only needs it to draw
    sys.modules["pydot"] = types.ModuleType("pydot")

import caffe  # noqa: E402
import golden  # noqa: E402

MODULES = ["", "_caffe", "pycaffe", "io", "classifier", "detector", "coord_map", "draw", "net_spec"]
CLASSES = [
    "Net",
    "Blob",
    "BlobVec",
    "Layer",
    "Solver",
    "SGDSolver",
    "Classifier",
    "Detector",
    "Timer",
    "NetSpec",
    "SolverParameter",
]


def signature(thing):
    """The signature of a Python function or class, else None."""
    if not (inspect.isfunction(thing) or inspect.isfunction(getattr(thing, "__init__", None))):
        return None
    return str(inspect.signature(thing))


def belongs(name, thing):
    """Whether a module defines `thing` or re-exports it from another of Caffe's."""
    if isinstance(thing, types.ModuleType):
        return thing.__name__.startswith("caffe.")
    home = getattr(thing, "__module__", None) or "caffe"
    return name != "division" and home.split(".")[0] == "caffe"


def names(owner, private):
    """{name: signature} of what `owner` has; of a module only what is Caffe's."""
    found = {}
    for name in dir(owner):
        hidden = name.startswith("__" if private else "_")
        thing = getattr(owner, name)
        if not hidden and (not inspect.ismodule(owner) or belongs(name, thing)):
            found[name] = signature(thing)
    return found


def record_names():
    """The table of names."""
    table = {}
    for name in MODULES:
        module = importlib.import_module("caffe." + name) if name else caffe
        table[module.__name__] = names(module, private=False)
    for name in CLASSES:
        table[name] = names(getattr(caffe, name, None) or getattr(caffe._caffe, name), private=True)
    return table


def debug_lines(folder):
    """What a net with debug_info logs, without glog's prefix."""
    import pycaffe_cases

    path = os.path.join(folder, "log")
    kept = os.dup(2)
    with open(path, "w") as file:
        os.dup2(file.fileno(), 2)
        pycaffe_cases.debug(folder)
        os.dup2(kept, 2)
    with open(path) as file:
        lines = [line.rstrip("\n").partition("] ")[2] for line in file]
    return [line for line in lines if line.startswith("    [")]


def write(path, values):
    golden.save_text(path, json.dumps(values, indent=1, sort_keys=True) + "\n")


def main(out):
    write(os.path.join(out, "pycaffe_names.json"), record_names())
    import caffe.draw
    import pycaffe_cases

    # pycaffe's own needs a scikit-image that still has as_grey
    caffe.io.load_image = lambda name: (pycaffe_cases.stored_image() / 255.0).astype(np.float32)
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in (pycaffe_cases.classify, pycaffe_cases.detect, pycaffe_cases.batched):
            arrays.update(
                ("%s/%s" % (kind.__name__, name), array) for name, array in kind(folder).items()
            )
        write(
            os.path.join(out, "pycaffe.json"),
            {
                "maps": pycaffe_cases.coordinate_maps(),
                "crop": pycaffe_cases.crop_text(),
                "labels": pycaffe_cases.labels(caffe.draw),
                "debug": debug_lines(folder),
            },
        )
    golden.save_arrays(os.path.join(out, "pycaffe.npz"), **arrays)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else golden.FOLDER)
