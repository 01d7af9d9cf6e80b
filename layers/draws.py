"""Random numbers determined by a seed and a position, so that a run can continue anywhere.

Number `column` of position t is a hash of both: the same whatever the batch size, the number of
processes and the order of the calls. The hash is the output function of SplitMix64 (Steele, Lea,
Flood, 2014).
"""

from __future__ import annotations

import numpy as np

_GOLDEN, _FIRST, _SECOND = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def uniform(seed: int, positions: np.ndarray, columns: int) -> np.ndarray:
    """(N, columns) numbers in [0, 1), for each of N positions."""
    at = np.asarray(positions, np.uint64)[:, None]
    start = _mix(np.array([seed % (1 << 64)], np.uint64) + _GOLDEN)
    words = _mix(_mix(start + at * _GOLDEN) + np.arange(1, columns + 1, dtype=np.uint64) * _GOLDEN)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, positions: np.ndarray, columns: int) -> np.ndarray:
    """(N, columns) standard normal numbers, for each of N positions (Box and Muller)."""
    numbers = uniform(seed, positions, 2 * columns)
    radius = np.sqrt(-2 * np.log(1 - numbers[:, :columns]))
    return radius * np.cos(2 * np.pi * numbers[:, columns:])


def _mix(words: np.ndarray) -> np.ndarray:
    words = (words ^ words >> np.uint64(30)) * _FIRST
    words = (words ^ words >> np.uint64(27)) * _SECOND
    return words ^ words >> np.uint64(31)
