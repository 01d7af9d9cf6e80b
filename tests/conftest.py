"""Options of the test run."""

from pathlib import Path

import torch

# also fills every tensor from torch.empty with NaN, so that reading one before writing shows
torch.use_deterministic_algorithms(True)


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, default=Path(__file__).parent / "golden",
                     help="the folder with what BVLC Caffe computed")
