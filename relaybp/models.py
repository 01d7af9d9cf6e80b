"""Model names: `resnet50_relay` is the folder of ResNet-50 and the method RELAY."""

import os

from caffe_plain.errors import nearest
from caffe_plain.names import file_name

from . import prototxt
from .errors import RelayError

METHODS = {"_relay": "RELAY", "_multiloss": "JOINT", "": "STANDARD"}


def find(name, root=None):
    """(folder, method) of a model name; the suffix picks the method, the folder is shared."""
    root = root or os.path.dirname(prototxt.__file__)
    base = os.path.basename(name.rstrip("/"))
    if base != name and base in names(root):
        raise RelayError(f"MODEL={name}: a model is named without its folder: MODEL={base}")
    file_name(name, "MODEL")
    suffix = next(s for s in METHODS if name.endswith(s))
    base = name[: len(name) - len(suffix)]
    for folder in (base, base + "_relay"):
        path = os.path.join(root, folder)
        if os.path.exists(os.path.join(path, "train_val.prototxt")):
            return path, METHODS[suffix]
    raise RelayError(f"MODEL={name}: no such model in {root}; {nearest(name, names(root))}")


def names(root=None):
    """Every model name, with each method it has."""
    root = root or os.path.dirname(prototxt.__file__)
    found = []
    for folder in sorted(os.listdir(root)):
        path = os.path.join(root, folder)
        if os.path.exists(os.path.join(path, "train_val.prototxt")):
            base = folder[: -len("_relay")] if folder.endswith("_relay") else folder
            found.append(base)
            if os.path.exists(os.path.join(path, "relay.prototxt")):
                found += [base + "_multiloss", base + "_relay"]
    return found
