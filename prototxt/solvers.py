"""The papers' settings as fields of SolverParameter."""

RELAY_PAPER = {
    "test_interval": 5000, "test_initialization": False,
    "base_lr": 0.01, "lr_policy": "multistep", "gamma": 0.1,
    "stepvalue": [320000, 560000, 720000], "max_iter": 800000,
    "momentum": 0.9, "weight_decay": 0.0002,
    "display": 20, "average_loss": 20, "snapshot": 20000,
}
IMAGENET = {**RELAY_PAPER, "test_iter": [1000]}  # 1000 x 50 = 50,000 validation images
PLACES2 = {**RELAY_PAPER, "test_iter": [401]}    # 401 x 50 = 20,050 validation images
