"""Factors given in a prototxt, where 0 switches something off."""

from __future__ import annotations

import torch


def scaled(x: torch.Tensor, factor: float) -> torch.Tensor:
    """`factor` x. As in BLAS, a factor of 0 gives 0 whatever x holds, infinities and NaN too."""
    if factor == 1:
        return x
    return x * factor if factor else torch.zeros_like(x)
