"""Kernels of the engine's own: normalization with what follows it, the update, pooling.

Each function returns the module whose kernels take these tensors, `cpu` or `gpu`, or None if
PyTorch must do the work.
"""

import logging
from functools import cache

from caffe_plain.glog import say

from . import cpu


def taking(*tensors):
    """The module with kernels for these tensors, of one shape and dtype; None: there is none."""
    module = _module(tensors[0])
    return module if module is not None and module.fits(*tensors) else None


def pooling(x, kernel):
    """The module that pools these images with this kernel; None: there is none."""
    module = _module(x)
    return module if module is not None and module.pools(x, kernel) else None


def updating(weights, gradients, velocities, momentum, keep_diffs):
    """The module whose `update_sgd` takes these lists; None: there is none."""
    module = _module(weights[0])
    takes = module is not None and module.can_update(
        weights, gradients, velocities, momentum, keep_diffs
    )
    return module if takes else None


def _module(tensor):
    """The module for the device that a tensor is on; None: there is none."""
    return _gpu() if tensor.is_cuda else cpu


@cache
def _gpu():
    """None if Triton, which comes with PyTorch for CUDA, is missing or cannot compile here."""
    try:
        from . import gpu
    except ImportError:
        return None
    try:
        gpu.try_out()
    except Exception as error:  # whatever the compilers that Triton calls run into
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        say(
            "kernels",
            f"GPU kernels: none ({reason}): PyTorch does their work, in more passes over memory; "
            "Triton needs a C compiler and Python's headers",
            logging.WARNING,
        )
        return None
    return gpu
