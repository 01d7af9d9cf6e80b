"""Compile the CPU kernels: python -m caffe.kernels.native.build

They lie beside the sources, for this machine's processor. Without a compiler, or where they cannot
be built, PyTorch does the same work in more passes over memory.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from . import SOURCES, library_path

COMPILE = [
    "g++",
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fopenmp",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-c",
]
LINK = ["g++", "-shared"]  # NOTE: no -fopenmp: the calls must find PyTorch's OpenMP, not a second


def build():
    """Compile what is not there yet; returns the path of the library."""
    path = library_path()
    if path.exists():
        return path
    for old in path.parent.glob("kernels-*.so"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = [str(Path(folder, source.stem + ".o")) for source in SOURCES]
        for source, target in zip(SOURCES, objects, strict=True):
            subprocess.run(
                [*COMPILE, str(source), "-o", target], check=True, capture_output=True, text=True
            )
        made = Path(folder, path.name)
        subprocess.run(
            [*LINK, *objects, "-o", str(made)], check=True, capture_output=True, text=True
        )
        made.replace(path)
    return path


def main():
    try:
        print(f"CPU kernels: {build().name}")
    except FileNotFoundError:
        print("CPU kernels: not built, for there is no g++; PyTorch's own are used")
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"CPU kernels: not built; PyTorch's own are used\n{error}\n"
            f"{getattr(error, 'stderr', '')}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
