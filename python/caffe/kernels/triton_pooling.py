"""Triton kernels of pooling, on images that lie as (N, H, W, C); see gpu.py.

A window of max pooling remembers which of its pixels was the largest: y kernel_w + x within the
window, a byte; -1 where none was larger than the lowest number, as if all are NaN.
"""

import triton
import triton.language as tl


@triton.jit
def _place(total, channels, height, width, BLOCK: tl.constexpr):
    """The program's values of images (N, height, width, C): addresses, n, y, x, c, which exist."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c, pixel = at % channels, at // channels
    x, row = pixel % width, pixel // width
    return at, row // height, row % height, x, c, at < total


@triton.jit
def _pixel(
    n,
    y,
    x,
    c,
    there,
    i,
    j,
    channels,
    height,
    width,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
):
    """The pixel (i, j) of the window at (y, x): its address in the images, whether it exists."""
    row, column = y * STRIDE_H - PAD_H + i, x * STRIDE_W - PAD_W + j
    inside = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return ((n * height + row) * width + column) * channels + c, inside


@triton.jit
def _window(
    n,
    y,
    x,
    c,
    there,
    i,
    j,
    channels,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
):
    """Of the windows that reach pixel (y, x), the (i, j)-th from the last: its row and column, the
    pixel's place within it, where it is among the tops, and whether."""
    row, column = (y + PAD_H) // STRIDE_H - i, (x + PAD_W) // STRIDE_W - j
    within_y, within_x = y + PAD_H - row * STRIDE_H, x + PAD_W - column * STRIDE_W
    inside = (
        there
        & (row >= 0)
        & (row < top_height)
        & (within_y < KERNEL_H)
        & (column >= 0)
        & (column < top_width)
        & (within_x < KERNEL_W)
    )
    at = ((n * top_height + row) * top_width + column) * channels + c
    return row, column, within_y * KERNEL_W + within_x, at, inside


@triton.jit
def max_pool(
    image,
    top,
    places,
    total,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first of the largest values of each window, and its place there; NaN does not count."""
    at, n, y, x, c, there = _place(total, channels, top_height, top_width, BLOCK)
    # Caffe's -FLT_MAX, or the finite value that is nearest to it
    is_half: tl.constexpr = image.dtype.element_ty == tl.bfloat16
    best = tl.full((BLOCK,), -3.38953139e38 if is_half else -3.40282347e38, tl.float32)
    found = tl.full((BLOCK,), -1, tl.int32)
    for i in tl.static_range(KERNEL_H):
        for j in tl.static_range(KERNEL_W):
            pixel, inside = _pixel(
                n, y, x, c, there, i, j, channels, height, width, STRIDE_H, STRIDE_W, PAD_H, PAD_W
            )
            value = tl.load(image + pixel, mask=inside, other=float("-inf")).to(tl.float32)
            larger = value > best
            best = tl.where(larger, value, best)
            found = tl.where(larger, i * KERNEL_W + j, found)
    tl.store(top + at, best.to(top.dtype.element_ty), mask=there)
    tl.store(places + at, found.to(tl.int8), mask=there)


@triton.jit
def max_pool_backward(
    dy,
    places,
    dx,
    total,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """For each pixel, the sum of the diffs of the windows in which it is the largest."""
    at, n, y, x, c, there = _place(total, channels, height, width, BLOCK)
    sum = tl.zeros((BLOCK,), tl.float32)
    for i in tl.static_range((KERNEL_H + STRIDE_H - 1) // STRIDE_H):
        for j in tl.static_range((KERNEL_W + STRIDE_W - 1) // STRIDE_W):
            _, _, within, window, inside = _window(
                n,
                y,
                x,
                c,
                there,
                i,
                j,
                channels,
                top_height,
                top_width,
                KERNEL_H,
                KERNEL_W,
                STRIDE_H,
                STRIDE_W,
                PAD_H,
                PAD_W,
            )
            place = tl.load(places + window, mask=inside, other=-1).to(tl.int32)
            chosen = inside & (place == within)
            sum += tl.load(dy + window, mask=chosen, other=0).to(tl.float32)
    tl.store(dx + at, sum.to(dx.dtype.element_ty), mask=there)


@triton.jit
def average_pool(
    image,
    top,
    total,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each window's average over its part of the image, padding included."""
    at, n, y, x, c, there = _place(total, channels, top_height, top_width, BLOCK)
    sum = tl.zeros((BLOCK,), tl.float32)
    for i in tl.static_range(KERNEL_H):
        for j in tl.static_range(KERNEL_W):
            pixel, inside = _pixel(
                n, y, x, c, there, i, j, channels, height, width, STRIDE_H, STRIDE_W, PAD_H, PAD_W
            )
            sum += tl.load(image + pixel, mask=inside, other=0).to(tl.float32)
    area = _area(y, x, height, width, KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, PAD_H, PAD_W)
    tl.store(top + at, (sum / area).to(top.dtype.element_ty), mask=there)


@triton.jit
def _area(
    row,
    column,
    height,
    width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
):
    """How many pixels of a window lie in the padded image; 1 for windows that do not exist."""
    high = tl.minimum(KERNEL_H, height + 2 * PAD_H - row * STRIDE_H)
    wide = tl.minimum(KERNEL_W, width + 2 * PAD_W - column * STRIDE_W)
    return tl.maximum(high * wide, 1).to(tl.float32)


@triton.jit
def average_pool_backward(
    dy,
    dx,
    total,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """For each pixel, the sum of its windows' diffs, each over the window's area in the image."""
    at, n, y, x, c, there = _place(total, channels, height, width, BLOCK)
    sum = tl.zeros((BLOCK,), tl.float32)
    for i in tl.static_range((KERNEL_H + STRIDE_H - 1) // STRIDE_H):
        for j in tl.static_range((KERNEL_W + STRIDE_W - 1) // STRIDE_W):
            row, column, _, window, inside = _window(
                n,
                y,
                x,
                c,
                there,
                i,
                j,
                channels,
                top_height,
                top_width,
                KERNEL_H,
                KERNEL_W,
                STRIDE_H,
                STRIDE_W,
                PAD_H,
                PAD_W,
            )
            diff = tl.load(dy + window, mask=inside, other=0).to(tl.float32)
            sum += diff / _area(
                row, column, height, width, KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, PAD_H, PAD_W
            )
    tl.store(dx + at, sum.to(dx.dtype.element_ty), mask=there)
