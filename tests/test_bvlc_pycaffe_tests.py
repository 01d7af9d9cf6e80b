"""BVLC Caffe's own tests of pycaffe, from its sources, run on this project's `caffe`.

BVLC_SOURCE names the folder of Caffe's sources (python/caffe/test is in it); without it these tests
are skipped. On Debian 11, `apt-get source caffe` brings them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = os.environ.get("BVLC_SOURCE", "")
TESTS = Path(SOURCE, "python", "caffe", "test").absolute()

pytestmark = [
    pytest.mark.skipif(not SOURCE, reason="BVLC_SOURCE does not name Caffe's sources"),
    pytest.mark.filterwarnings("ignore"),
]


def modules():
    return sorted(path.name for path in TESTS.glob("test_*.py")) if SOURCE else ["none"]


@pytest.mark.parametrize("module", modules())
def test_bvlcs_own_tests_pass(module, tmp_path):
    pytest.importorskip("six", reason="BVLC's tests import the package six")
    if module == "test_draw.py" and not shutil.which("dot"):
        pytest.skip("needs Graphviz's dot, here as in BVLC Caffe")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, TESTS / module],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:]
