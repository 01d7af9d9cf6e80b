"""What the tests of kernels share."""

import os

import numpy as np
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def images(shape, dtype, seed):
    """Random values with another mean and spread in each channel, channels last."""
    random = np.random.RandomState(seed)
    channel = (1, -1) + (1,) * (len(shape) - 2)
    values = random.randn(*shape) * (0.5 + random.rand(shape[1]).reshape(channel)) + (
        random.randn(shape[1]).reshape(channel)
    )
    tensor = torch.tensor(values).to(dtype)
    return tensor.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else tensor
