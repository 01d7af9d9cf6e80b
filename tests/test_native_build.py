"""The CPU kernels: compiled at first use, or reported as missing."""

import os
import shutil
import subprocess
import sys

import pytest

from caffe.kernels import native

FIRST_USE = """
import sys
from pathlib import Path
from caffe_plain.glog import show_log
from caffe.kernels import native
native.os.access = lambda *_: False  # as in a site-packages of root's
native.FOLDER, native.SOURCES = Path(sys.argv[1]), sorted(Path(sys.argv[1]).glob("*.cpp"))
from caffe.kernels.native import build
build.SOURCES = native.SOURCES
show_log()
print(native.library_path(), native.library() is not None)
"""


def first_use(tmp_path, path):

    sources = tmp_path / "sources"
    shutil.copytree(native.FOLDER, sources, ignore=shutil.ignore_patterns("*.so", "*.py"))

    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": path}
    return subprocess.run(
        [sys.executable, "-c", FIRST_USE, sources],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def test_without_a_compiler_pytorch_works_and_says_so(tmp_path):
    done = first_use(tmp_path, str(tmp_path))
    assert done.stdout.split()[1] == "False", done.stderr
    assert done.stderr.count("CPU kernels: none (no C++ compiler (g++))") == 1


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_first_use_compiles_into_the_users_cache(tmp_path):

    done = first_use(tmp_path, os.environ["PATH"])
    path, loaded = done.stdout.split()
    assert path.startswith(str(tmp_path / "cache")) and loaded == "True", done.stderr
    assert done.stderr.count("CPU kernels: compiled") == 1
