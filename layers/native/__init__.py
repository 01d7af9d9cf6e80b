"""The layers' C code: compiled by `make setup` or at its first use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffe_plain.native import run_compiler

FOLDER = Path(__file__).parent
# no contraction: a multiplication and an addition are rounded one after the other, as in PyTorch
COMPILE = ["cc", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra"]


def compile_c(sources: Sequence[Path], path: Path, linked: Sequence[str] = ()) -> None:
    """Make the library `path` of C sources; NotCompiled if that fails."""
    run_compiler([*COMPILE, *map(str, sources), "-o", str(path), *linked])
