"""Kernels of the engine's own: normalization with what follows it, and the update.

`taking(*tensors)` gives the module whose kernels take these tensors, `cpu` or `gpu`: both have
the same functions. Where it gives None, PyTorch has to do.
"""

from functools import cache

from . import cpu


def taking(*tensors):
    """The module with kernels for these tensors, of one shape and dtype; None: there is none."""
    module = _gpu() if tensors[0].is_cuda else cpu
    return module if module is not None and module.fits(*tensors) else None


def pooling(x, kernel):
    """The module that pools these images with this kernel; None: there is none."""
    module = _gpu() if x.is_cuda else None
    return module if module is not None and module.pools(x, kernel) else None


def updating(weights, gradients, velocities, momentum, keep_diffs):
    """The module whose `update_sgd` takes these lists; None: there is none."""
    module = _gpu() if weights[0].is_cuda else cpu
    takes = module is not None and module.can_update(weights, gradients, velocities, momentum,
                                                     keep_diffs)
    return module if takes else None


@cache
def _gpu():
    """None where Triton, which comes with PyTorch for CUDA, is missing."""
    try:
        from . import gpu
    except ImportError:
        return None
    return gpu
