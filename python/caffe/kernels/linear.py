"""Products of matrices, as an inner product needs them, each in several ways; see choice.

x: (M, C); weight: (K, C); y: (M, K).
"""

import torch

from . import packed
from .choice import Operation

forward = Operation("inner product, forward")  # (x, weight, bias or None): y = x W^T + b
weight_gradient = Operation("inner product, to weights")  # (dy, x): dy^T x, (K, C)


def suits_onednn(x: torch.Tensor) -> bool:
    """Whether `by_onednn` takes such values and is another way than PyTorch's own."""
    return x.dtype == torch.float32 and packed.takes(x)


def by_onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W^T + b; PyTorch's own way in fp32 is another library."""
    return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")


@forward.way("product")
def _forward(x, weight, bias):
    return torch.nn.functional.linear(x, weight, bias)


@forward.way("oneDNN", lambda x, weight, bias: suits_onednn(x))
def _forward_by_onednn(x, weight, bias):
    return by_onednn(x, weight, bias)


@weight_gradient.way("product")
def _weight_gradient(dy, x):
    product = dy.T @ x
    return product.float() if product.dtype == torch.bfloat16 else product


@weight_gradient.way(
    "product in fp32", lambda dy, x: x.is_cpu and dy.dtype == x.dtype == torch.bfloat16
)
def _weight_gradient_in_fp32(dy, x):
    return dy.float().T @ x.float()
