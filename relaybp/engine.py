"""Which Caffe the driver runs on: this repository's engine, or the one that CAFFE_ROOT names."""

import os
import sys

from .errors import RelayError

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load(root=None):
    """Put $(CAFFE_ROOT)/python on the path and import caffe; default: this repository's."""
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

    from . import layers

    layers.register(caffe)
    return caffe


def is_native(caffe):
    """Whether `caffe` is this repository's engine."""
    return hasattr(caffe, "register_layer")


def use_device(caffe, gpu="auto", precision="fp32"):
    """Compute on a GPU ("auto": the first, if there is one) or on the CPU ("none"); say which."""
    if precision != "fp32":
        if not is_native(caffe):
            raise RelayError(f"precision {precision}: an original Caffe computes in fp32")
        caffe.set_precision(precision)
    if gpu == "auto":
        gpu = "0" if is_native(caffe) and caffe.gpu_count() else "none"
    if gpu == "none":
        caffe.set_mode_cpu()
        return "CPU"
    if not gpu.isdigit():
        raise RelayError(f"GPU={gpu}: expected auto, none or a GPU's number")
    caffe.set_device(int(gpu))
    caffe.set_mode_gpu()
    return f"GPU {gpu}"


def make_solver(caffe, path):
    """The solver of a solver.prototxt, whatever the engine."""
    if is_native(caffe):
        return caffe.get_solver(path)
    from .bvlc import BvlcSolver

    return BvlcSolver(caffe, path)


def forward(net):
    """A forward pass; its loss, for float(): on this engine that alone waits for a GPU."""
    last = len(net.layers) - 1
    return net._loss(0, last) if hasattr(net, "_loss") else net._forward(0, last)
