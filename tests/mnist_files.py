"""Small files in the formats of MNIST and of CIFAR-10's binary version."""

import numpy as np


def write_mnist(folder, split, count, seed=0):
    """Write images and labels as idx files; returns their paths."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    pixels[rng.random(pixels.shape) < 0.8] = 0
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    paths = folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"
    for path, array in zip(paths, (pixels, labels), strict=True):
        header = np.array([2048 + array.ndim, *array.shape], ">i4")
        path.write_bytes(header.tobytes() + array.tobytes())
    return paths


def write_cifar(folder, rows, seed=0):
    """Write the six batch files, with `rows` images each."""
    rng = np.random.default_rng(seed)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        batch = rng.integers(0, 256, (rows, 3073), dtype=np.uint8)
        batch[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(batch.tobytes())
