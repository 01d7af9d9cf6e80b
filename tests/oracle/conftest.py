"""Tests against a live BVLC Caffe; they are skipped unless ORACLE_RUN says how to run it."""

import bvlc_caffe
import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "oracle: needs a live BVLC Caffe")


@pytest.fixture
def oracle():
    """Run a command with BVLC Caffe in the folder `cwd`; its standard output."""
    if not bvlc_caffe.prefix():
        pytest.skip("ORACLE_RUN does not say how to run BVLC Caffe")
    return bvlc_caffe.run
