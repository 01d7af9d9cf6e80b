#!/usr/bin/env python3
"""Import what must run under an original Caffe's Python 3.9: python3.9 tests/python39.py

Needs numpy, protobuf, lmdb, h5py and Pillow, as pycaffe does. Every module of caffe_plain must
import, and every module of relaybp and the layers that does not use PyTorch, OpenCV or matplotlib
itself. Every relay.prototxt must be read.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "python"), str(REPOSITORY)]

import caffe_plain  # noqa: E402
import relaybp  # noqa: E402
import relaybp.layers  # noqa: E402
from relaybp import relay_file  # noqa: E402

# what this repository's engine and the commands that need it ask for
OTHERS = {"caffe", "torch", "cv2", "matplotlib", "onnx", "PIL", "rich", "h5py", "scipy"}


def main() -> None:
    read, needing = 0, {}
    names = [*names_of(caffe_plain.__path__, "caffe_plain.")]
    names += names_of([str(Path(relaybp.__file__).parent)], "relaybp.")
    names += names_of(relaybp.layers.__path__, "relaybp.layers.")
    for name in names:
        try:
            importlib.import_module(name)
            read += 1
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] not in OTHERS or name.startswith("caffe_plain"):
                raise
            needing.setdefault(error.name, []).append(name)
    relays = sorted((REPOSITORY / "prototxt").glob("*/relay.prototxt"))
    for path in relays:
        relay = relay_file.read_relay(str(path))
        assert relay.flow or relay.schedule, path
    assert read > 20 and relays
    print(f"Python {sys.version.split()[0]}: {read} modules, {len(relays)} relay files")
    for package, users in needing.items():
        print(f"not without {package}: {', '.join(users)}")


def names_of(path: list[str], prefix: str) -> list[str]:
    """The names of all modules of a package."""
    found = [module.name for module in pkgutil.walk_packages(path, prefix)]
    return [name for name in found if "-" not in name]  # a compiled kernel is no module


if __name__ == "__main__":
    main()
