"""Options of the test run."""

from pathlib import Path


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, default=Path(__file__).parent / "golden",
                     help="the folder with what BVLC Caffe computed")
