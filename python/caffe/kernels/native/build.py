"""Compile the CPU kernels: python -m caffe.kernels.native.build

This also happens at their first use, once for each kind of processor. Without a compiler, or if the
build fails, PyTorch does the same work in more passes over memory.
"""

import fcntl
import subprocess
import tempfile
import time
from pathlib import Path

from caffe_plain.glog import say, show_log

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


def build() -> Path:
    """Compile the library if it does not exist yet, one process at a time; returns its path.

    Raises OSError or subprocess.CalledProcessError if it cannot be compiled.
    """
    path = library_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / ".kernels.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed
        if not path.exists():
            for old in path.parent.glob("kernels-*.so"):
                old.unlink()
            _compile(path)
    return path


def _compile(path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = [str(Path(folder, source.stem + ".o")) for source in SOURCES]
        for source, target in zip(SOURCES, objects, strict=True):
            _run([*COMPILE, str(source), "-o", target])
        made = Path(folder, path.name)
        _run([*LINK, *objects, "-o", str(made)])
        made.replace(path)


def _run(command):
    subprocess.run(command, check=True, capture_output=True, text=True)


def build_and_say() -> bool:
    """Compile the kernels and log the outcome; returns whether they exist."""
    start = time.monotonic()
    try:
        path = build()
    except FileNotFoundError:
        why = "no C++ compiler (g++)"
    except subprocess.CalledProcessError as error:
        why = f"they do not compile: {error.stderr.strip()}"
    except OSError as error:
        why = str(error)
    else:
        say("kernels", f"CPU kernels: compiled {path} in {time.monotonic() - start:.0f} s")
        return True
    say("kernels", f"CPU kernels: none ({why}): PyTorch does their work")
    return False


def main():
    show_log()
    if library_path().exists():
        say("kernels", f"CPU kernels: {library_path()}")
    else:
        build_and_say()


if __name__ == "__main__":
    main()
