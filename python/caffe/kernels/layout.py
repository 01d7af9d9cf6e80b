"""How tensors lie in memory: checks and allocations that the CPU and GPU kernels share."""

import torch

MOST_PLACES = 127  # of a pooling window, in a byte


def are_rows(*tensors):
    """Whether tensors are all fp32 or all bf16, not empty, and lie as (rows, channels).

    They have one shape, (N, C, H, W) or (N, C).
    """
    kind, shape = tensors[0].dtype, tensors[0].shape
    return (
        kind in (torch.float32, torch.bfloat16)
        and len(shape) in (2, 4)
        and 0 not in shape
        and all(x.dtype == kind and is_rows(x) for x in tensors)
    )


def is_rows(x):
    """Whether x lies in memory as (rows, channels)."""
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.is_contiguous()


def are_alike(weights, gradients, velocities):
    """Whether lists of fp32 tensors lie alike in memory, without gaps."""
    return all(
        w.dtype == g.dtype == v.dtype == torch.float32
        and w.stride() == g.stride() == v.stride()
        and (w.is_contiguous() or is_rows(w))
        for w, g, v in zip(weights, gradients, velocities, strict=True)
    )


def images(like, sizes, dtype):
    """Memory for (N, C, *sizes), channels last, with the N and C of `like`, on its device."""
    return torch.empty(
        (*like.shape[:2], *sizes),
        dtype=dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )
