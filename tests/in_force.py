"""What a run of the suite uses: PyTorch, the processor, the kernels, a live BVLC Caffe."""

import os

import pytest
import torch

from caffe.kernels.native import LIBRARY
from relaybp.layers.native.build import LIBRARIES

COMPILED = (LIBRARY, *LIBRARIES)


def require_kernels() -> None:
    """UsageError where tests of compiled code would be skipped."""
    missing = [f"{one.name}: {one.state()}" for one in COMPILED if not one.load()]
    if missing:
        raise pytest.UsageError(
            f"--require-native needs g++, cc and the headers of libjpeg-turbo: {'; '.join(missing)}"
        )


def lines() -> list[str]:
    """What the suite prints at its end."""
    capability = torch.backends.cpu.get_cpu_capability()
    return [
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {capability}",
        *(f"{library.name}: {library.state()}" for library in COMPILED),
        f"live BVLC Caffe: {os.environ.get('ORACLE_RUN') or 'none (ORACLE_RUN)'}",
    ]
