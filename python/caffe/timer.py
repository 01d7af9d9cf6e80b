"""pycaffe's Timer: wall-clock time in milliseconds, of the GPU's work too."""

import time

import torch

from . import device


class Timer:
    """start(), stop(), then `ms`; reading `ms` stops a running timer."""

    def __init__(self):
        self._begun = None
        self._ms = 0.0

    def start(self):
        """Start measuring; earlier work that the GPU has not finished does not count."""
        _finish()
        self._begun = time.perf_counter()

    def stop(self):
        """Stop measuring, after the GPU has finished all its work."""
        if self._begun is not None:
            _finish()
            self._ms = (time.perf_counter() - self._begun) * 1000
            self._begun = None

    @property
    def ms(self):
        """The milliseconds between start and stop, 0 before the first start."""
        self.stop()
        return self._ms


def _finish():
    if device.current().type == "cuda":
        torch.cuda.synchronize(device.current())
