"""Settings of the test run."""

import torch

# also fills every tensor from torch.empty with NaN, so that reading one before writing shows
torch.use_deterministic_algorithms(True)
