"""What a convolution does besides its weights."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Geometry(NamedTuple):
    """What torch.convolution takes after x, weight and bias; for each spatial axis, then groups."""

    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_pad: tuple[int, ...]
    groups: int

    def multiplies_pixels(self, weight: torch.Tensor) -> bool:
        """Whether pixels, all or every stride-th, are multiplied by one matrix (K, C, 1, 1)."""
        return (
            weight.shape[2:].numel() == self.groups == 1
            and not any(self.pad)
            and not self.transposed
        )

    @property
    def is_dense(self) -> bool:
        """Whether a plain kernel over two axes goes from pixel to pixel."""
        return self.stride == self.dilation == (1, 1) and self.groups == 1 and not self.transposed
