"""The exponential moving average of a solver's weights, tested and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..blob import show


class Average:
    """average = d average + (1 - d) weights, after each iteration t = 1, 2, ...

    d is `decay`, in the beginning at most t / (t + 9), so that the first weights are soon
    forgotten. The first average is the weights after the first update. Records with lr_mult 0, such
    as the statistics of a BatchNorm, are not averaged. decay 0: there is no average.
    """

    def __init__(self, decay: float, learnable: list):
        self.decay = decay
        self._blobs = [record.blob for record in learnable if record.lr_mult] if decay else []
        self._others: list[torch.Tensor] = []  # the averages; while the net has those, the weights
        self._is_in_net = False

    @property
    def has_begun(self) -> bool:
        """Whether there is an average yet."""
        return bool(self._others)

    def begin(self) -> None:
        """Let the average be what the net holds now."""
        self._others = [blob.tensor.clone() for blob in self._blobs]

    def end(self) -> None:
        """Forget the average; the next update begins another."""
        self._others = []

    def update(self, iteration: int, held: torch.Tensor | None = None) -> None:
        """Take in the weights after that many iterations; held: see Solver."""
        if not self.has_begun:
            self.begin()
            return
        share = 1 - min(self.decay, iteration / (iteration + 9))
        weights = [blob.tensor for blob in self._blobs]
        if held is None:
            torch._foreach_lerp_(self._others, weights, share)
            return
        for average, tensor in zip(self._others, weights, strict=True):
            average.lerp_(tensor, (held == 0).to(average) * share)

    @contextmanager
    def in_net(self, wanted: bool = True) -> Iterator[None]:
        """Within, the net holds the average, or with False the weights that are trained."""
        if not self.has_begun or wanted == self._is_in_net:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        tensors = [blob.tensor for blob in self._blobs]
        kept = [tensor.clone() for tensor in tensors]
        torch._foreach_copy_(tensors, self._others)
        torch._foreach_copy_(self._others, kept)
        show(self._blobs, "data")
        self._is_in_net = not self._is_in_net
