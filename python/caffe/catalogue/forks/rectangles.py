"""Maxima of many rectangles of images at once.

A rectangle is covered by four squares whose sides are powers of two. The maxima of all such squares
are found by doubling, so that no rectangle is walked through pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Table = tuple[Tensor, Tensor]  # maxima, (N, H, W, C), and the pixels they are in


def maxima(x: Tensor, images: Tensor, sides: Sequence[Tensor], want_places: bool) -> Table:
    """The maximum of each rectangle of x (N, C, H, W), (B, C), and the pixel it is in, (B, C).

    images: the image of each rectangle, (B,); sides: its first row, last row + 1, first column,
    last column + 1. Pixels count from 0 to N H W - 1, of equal ones any is taken; without
    want_places they mean nothing. An empty rectangle has the maximum 0 in pixel -1.
    """
    top, bottom, left, right = sides
    values = x.new_zeros(len(images), x.shape[1])
    places = torch.full_like(values, -1, dtype=torch.int32)
    rows, columns = bottom - top, right - left
    filled = (rows > 0) & (columns > 0)
    if not filled.any():
        return values, places
    rows, columns = rows.where(filled, 0), columns.where(filled, 0)
    for high, wide, table in _tables(x, int(rows.max()), int(columns.max()), want_places):
        fits = _is_largest_power(high, rows) & _is_largest_power(wide, columns)
        chosen = fits.nonzero()[:, 0]
        corners = [
            (images[chosen], row, column)
            for row in (top[chosen], bottom[chosen] - high)
            for column in (left[chosen], right[chosen] - wide)
        ]
        found = [tuple(part[corner] for part in table) for corner in corners]
        while len(found) > 1:
            found = [_larger(found[0], found[1], want_places), *found[2:]]
        values[chosen], places[chosen] = found[0]
    return values, places


def _is_largest_power(power: int, sizes: Tensor) -> Tensor:
    return (sizes >= power) & (sizes < 2 * power)


def _tables(x: Tensor, most_rows: int, most_columns: int, want_places: bool) -> Iterator:
    """(height, width, the Table of all windows of that size) up to the sizes given."""
    images, _, height, width = x.shape
    pixels = torch.arange(images * height * width, device=x.device, dtype=torch.int32)
    tall = x.permute(0, 2, 3, 1), pixels.view(images, height, width, 1)
    high = 1
    while high <= most_rows:
        table, wide = tall, 1
        while wide <= most_columns:
            yield high, wide, table
            table, wide = _doubled(table, 2, wide, want_places), 2 * wide
        tall, high = _doubled(tall, 1, high, want_places), 2 * high


def _doubled(table: Table, axis: int, step: int, want_places: bool) -> Table:
    """The table of windows of twice the size along an axis."""
    count = max(table[0].shape[axis] - step, 0)
    first, second = (
        tuple(part.narrow(axis, start, count) for part in table)
        for start in (0, min(step, table[0].shape[axis]))
    )
    return _larger(first, second, want_places)


def _larger(one: Table, other: Table, want_places: bool) -> Table:
    if not want_places:
        return torch.maximum(one[0], other[0]), one[1]
    takes = other[0] > one[0]
    return torch.where(takes, other[0], one[0]), torch.where(takes, other[1], one[1])
