"""BVLC Caffe's own tests of pycaffe, from its sources, run on this project's `caffe`.

They are skipped without the sources; bvlc_source.py says how to get them.
"""

import shutil
import subprocess
import sys

import pytest

import bvlc_source

TESTS = bvlc_source.SOURCE / "python" / "caffe" / "test"
MODULES = sorted(path.name for path in TESTS.glob("test_*.py"))

# NOTE: they compare sums over random numbers with 1e-5 of values of 50 and fail now and then, under
# BVLC Caffe too; with a seed they do not.
RUN = """
import sys
import caffe, numpy, pytest
caffe.set_random_seed(1)
numpy.random.seed(1)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", *sys.argv[1:]]))
"""


@bvlc_source.needed
def test_the_sources_have_tests():
    assert "test_net.py" in MODULES, TESTS


@bvlc_source.needed
@pytest.mark.parametrize("module", MODULES)
def test_bvlcs_own_tests_pass(module, tmp_path):
    pytest.importorskip("six", reason="BVLC's tests import the package six")
    if module == "test_draw.py" and not shutil.which("dot"):
        pytest.skip("needs Graphviz's dot, here as in BVLC Caffe")
    done = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path, TESTS / module],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:]
