"""Values on their way from a GPU, for a program that does not wait for them."""

import torch

from . import device


class Arriving:
    """A copy of a small tensor on the CPU, begun now; a CPU tensor is here at once.

    float() of one without axes gives it divided by `divisor`. To read waits for this copy alone,
    not for what the GPU was given afterwards. tensor: the GPU's own.
    """

    def __init__(self, tensor: torch.Tensor, divisor: float = 1):
        self.tensor = tensor
        self._values = tensor.to("cpu", non_blocking=True)
        self._event = device.mark() if tensor.is_cuda else None
        self._divisor = divisor

    @property
    def is_here(self) -> bool:
        """Whether reading it need not wait."""
        return self._event is None or self._event.query()

    def tolist(self) -> list:
        """The values, not divided."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.tolist()

    def __float__(self):
        return self.tolist() / self._divisor


def number(value: torch.Tensor | float, divisor: float = 1) -> Arriving | float:
    """`value` / `divisor` as a float, or as an Arriving where a GPU has yet to compute it."""
    if isinstance(value, torch.Tensor) and value.is_cuda:
        return Arriving(value, divisor)
    return float(value) / divisor
