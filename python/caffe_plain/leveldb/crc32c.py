"""CRC-32C, the checksum of LevelDB's files, by numpy: it takes no other package."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected
_START = b"Td\x1fd"  # its remainder is 0xFFFFFFFF, from which the checksum starts


def crc32c(*pieces: bytes | memoryview) -> int:
    """The CRC-32C of `pieces`, one after another.

    The bytes are laid out as rows, whose remainders numpy finds side by side, two bytes a step, and
    then joins in pairs. Zeros in front do not count, for a remainder of 0 stays 0.
    """
    size = len(_START) + sum(map(len, pieces))
    rows = 1 << max(size // 64, 1).bit_length() - 1
    width = -(-size // rows) + 1 & ~1  # bytes of a row
    data = bytes(rows * width - size) + b"".join((_START, *pieces))
    state: np.ndarray = np.zeros(rows, np.uint32)
    for words in np.frombuffer(data, "<u2").reshape(rows, width // 2).T.copy():
        state = _word_table().take((state ^ words) & 0xFFFF) ^ (state >> 16)
    while len(state) > 1:
        state = _apply(_append_zeros(width), state[::2]) ^ state[1::2]
        width *= 2
    return int(state[0]) ^ 0xFFFFFFFF


@lru_cache(1)
def _word_table() -> np.ndarray:
    """The remainder (65536,) of each pair of bytes."""
    table: np.ndarray = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = (table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    return table


@lru_cache(4096)
def _append_zeros(size: int) -> np.ndarray:
    """What becomes of a remainder when `size` zeros follow: (4, 256), each value of its bytes."""
    if size % 4 == 0:
        half = _append_zeros(size // 2)
        return _apply(half, half)
    table = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    for _ in range(size // 2):
        table = _word_table()[table & 0xFFFF] ^ (table >> 16)
    return table


def _apply(table: np.ndarray, state: np.ndarray) -> np.ndarray:
    low, high = state & 0xFFFF, state >> 16
    return table[0][low & 255] ^ table[1][low >> 8] ^ table[2][high & 255] ^ table[3][high >> 8]
