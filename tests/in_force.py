"""What a run of the suite uses: PyTorch, the processor, the kernels, a live BVLC Caffe."""

import os

import pytest
import torch

from caffe.kernels import native
from relaybp.layers import native as layers_native


def kernels() -> dict[str, str | None]:
    """{library of compiled code: its file name, or None where it is not in force}."""
    found = {"kernels": native.library_path().name if native.library() else None}
    for name in layers_native.LINKED:
        loaded = layers_native.load(name)
        found[name] = os.path.basename(layers_native.library_path(name)) if loaded else None
    return found


def require_kernels() -> None:
    """UsageError where tests of compiled code would be skipped."""
    missing = [name for name, file in kernels().items() if file is None]
    if missing:
        raise pytest.UsageError(
            f"--require-native: {', '.join(missing)} not compiled: it needs g++, cc and the "
            "headers of libjpeg-turbo (libjpeg-turbo8-dev); `make setup` says what failed"
        )


def lines() -> list[str]:
    """What the suite prints at its end."""
    capability = torch.backends.cpu.get_cpu_capability()
    files = [file or f"no {name}" for name, file in kernels().items()]
    return [
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {capability}",
        f"kernels: {', '.join(files)}",
        f"live BVLC Caffe: {os.environ.get('ORACLE_RUN') or 'none (ORACLE_RUN)'}",
    ]
