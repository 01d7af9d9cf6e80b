"""Tests against a live BVLC Caffe; they are skipped unless ORACLE_RUN says how to run it.

ORACLE_RUN is a command prefix, such as "bash ../shared/oracle/run.sh", that runs a command in the
current folder where `import caffe` is BVLC Caffe.
"""

import os
import shlex
import subprocess

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "oracle: needs a live BVLC Caffe")


@pytest.fixture
def oracle():
    """Run a command with BVLC Caffe in the folder `cwd`; its standard output."""
    prefix = shlex.split(os.environ.get("ORACLE_RUN", ""))
    if not prefix:
        pytest.skip("ORACLE_RUN does not say how to run BVLC Caffe")
    prefix = [os.path.abspath(word) if os.path.exists(word) else word for word in prefix]

    def run(cwd, *command):
        done = subprocess.run([*prefix, *map(str, command)], cwd=cwd, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run
