"""Triton kernels of normalization, on values that lie as (rows, channels); see gpu.py.

A program holds a tile of HEIGHT rows and COLUMNS channels. Sums run over chunks of rows, so their
order, and with it the result, does not change from run to run.
"""

import triton
import triton.language as tl

FINISHED = 16  # channels that a program of the `finish` kernels handles


@triton.jit
def _columns(channels, COLUMNS: tl.constexpr):
    """The program's channels and which of them exist."""
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return columns, columns < channels


@triton.jit
def _tile(first, columns, there, rows, channels, HEIGHT: tl.constexpr):
    """Places of a tile's values and which of them exist."""
    row = first.to(tl.int64) + tl.arange(0, HEIGHT)
    return row[:, None] * channels + columns[None, :], (row[:, None] < rows) & there[None, :]


@triton.jit
def _channel(values, row, columns, there, channels):
    """Row `row` of a (rows, channels) table of channel values, in fp32."""
    return tl.load(values + row * channels + columns, mask=there, other=0)


@triton.jit
def _origin(x, columns, there):
    """What measure counts from: the first row; 0 where that is not finite, or sums would be NaN."""
    first = tl.load(x + columns, mask=there, other=0).to(tl.float32)
    return tl.where(first - first == 0, first, 0)


@triton.jit
def _rectified(value):
    """max(value, 0), and NaN of NaN."""
    return tl.maximum(value, 0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def measure(x, sums, rows, channels, chunk, HEIGHT: tl.constexpr, COLUMNS: tl.constexpr):
    """sums (2, parts, C): of x less `_origin`, and of its square, over each part."""
    columns, there = _columns(channels, COLUMNS)
    shift = _origin(x, columns, there)
    total = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    squares = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    first = tl.program_id(0) * chunk
    for start in range(0, chunk, HEIGHT):
        at, inside = _tile(first + start, columns, there, rows, channels, HEIGHT)
        value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
        value = tl.where(inside, value - shift[None, :], 0)
        total += value
        squares += value * value
    _store_sums(sums, 0, total, squares, columns, there, channels)


@triton.jit
def _store_sums(sums, pair, one, other, columns, there, channels):
    part, parts = 2 * pair * tl.num_programs(0) + tl.program_id(0), tl.num_programs(0)
    tl.store(sums + part * channels + columns, tl.sum(one, 0), mask=there)
    tl.store(sums + (parts + part) * channels + columns, tl.sum(other, 0), mask=there)


@triton.jit
def _add_parts(sums, first, parts, columns, there, channels, COLUMNS: tl.constexpr):
    """The sum over `parts` rows of sums (2 parts, C), from row `first` on."""
    HEIGHT: tl.constexpr = 128
    total = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    for start in range(0, parts, HEIGHT):
        part = start + tl.arange(0, HEIGHT)
        at = (first + part[:, None]) * channels + columns[None, :]
        total += tl.load(sums + at, mask=(part[:, None] < parts) & there[None, :], other=0)
    return tl.sum(total, 0)


@triton.jit
def finish_measure(
    x,
    sums,
    parts,
    rows,
    channels,
    fraction,
    found,
    means,
    variances,
    weight,
    COLUMNS: tl.constexpr = FINISHED,
):
    """found (2, C): mean and biased variance; Caffe's running sums gain mean, unbiased variance."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < channels
    mean = _add_parts(sums, 0, parts, columns, there, channels, COLUMNS) / rows
    square = _add_parts(sums, parts, parts, columns, there, channels, COLUMNS) / rows
    variance = _rectified(square - mean * mean)
    mean += _origin(x, columns, there)
    tl.store(found + columns, mean, mask=there)
    tl.store(found + channels + columns, variance, mask=there)
    mean += fraction * tl.load(means + columns, mask=there, other=0)
    tl.store(means + columns, mean, mask=there)
    variance *= rows / tl.maximum(rows - 1, 1).to(tl.float32)
    variance += fraction * tl.load(variances + columns, mask=there, other=0)
    tl.store(variances + columns, variance, mask=there)
    if tl.program_id(0) == 0:
        tl.store(weight, tl.load(weight) * fraction + 1)


@triton.jit
def normalize(
    x,
    other,
    y,
    scale,
    bias,
    mean,
    variance,
    saved,
    rows,
    channels,
    eps,
    RECTIFY: tl.constexpr,
    HEIGHT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """y; saved (3, C): the inverse standard deviation, and x's factor and shift."""
    columns, there = _columns(channels, COLUMNS)
    inverse_std = 1 / tl.sqrt(_channel(variance, 0, columns, there, channels) + eps)
    factor = inverse_std
    if scale is not None:
        factor *= _channel(scale, 0, columns, there, channels)
    shift = -_channel(mean, 0, columns, there, channels) * factor
    if bias is not None:
        shift += _channel(bias, 0, columns, there, channels)
    if tl.program_id(0) == 0:
        tl.store(saved + columns, inverse_std, mask=there)
        tl.store(saved + channels + columns, factor, mask=there)
        tl.store(saved + 2 * channels + columns, shift, mask=there)
    at, inside = _tile(tl.program_id(0) * HEIGHT, columns, there, rows, channels, HEIGHT)
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    value = value * factor[None, :] + shift[None, :]
    if other is not None:
        value += tl.load(other + at, mask=inside, other=0).to(tl.float32)
    if RECTIFY:
        value = _rectified(value)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _passed(value):
    """Where a ReLU passes the diff of what it made of `value`: NaN, too, as in PyTorch."""
    return (value > 0) | (value != value)


@triton.jit
def _diff(dy, second, at, inside, passed):
    """The diff dy, or dy + second, where the ReLU passed."""
    diff = tl.load(dy + at, mask=inside, other=0).to(tl.float32)
    if second is not None:
        diff += tl.load(second + at, mask=inside, other=0).to(tl.float32)
    return tl.where(passed, diff, 0)


@triton.jit
def _kept(below, diff, at, inside):
    """The diff, stored in `below` and rounded to its precision; unchanged if `below` is None."""
    if below is not None:
        kept = diff.to(below.dtype.element_ty)
        tl.store(below + at, kept, mask=inside)
        diff = kept.to(tl.float32)
    return diff


@triton.jit
def sum_backward(
    dy,
    other_dy,
    second,
    other_second,
    below,
    other_below,
    x,
    top,
    mean,
    saved,
    sums,
    rows,
    channels,
    chunk,
    RECTIFIED: tl.constexpr,
    HEIGHT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """sums (2 or 4, parts, C): of the diff below the ReLU, and of it times (x - mean).

    The diff is dy, or dy + second; the ReLU passed where top says so, or what x became. The
    diff below it is stored in `below`, if that is not None. The same for the other flow, if any.
    """
    columns, there = _columns(channels, COLUMNS)
    center = _channel(mean, 0, columns, there, channels)
    factor = _channel(saved, 1, columns, there, channels)
    shift = _channel(saved, 2, columns, there, channels)
    total = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    products = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    other_total = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    other_products = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    first = tl.program_id(0) * chunk
    for start in range(0, chunk, HEIGHT):
        at, inside = _tile(first + start, columns, there, rows, channels, HEIGHT)
        value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
        centred = tl.where(inside, value - center[None, :], 0)
        passed = inside
        if top is not None:
            passed = _passed(tl.load(top + at, mask=inside, other=0).to(tl.float32))
        if RECTIFIED:
            passed = _passed(value * factor[None, :] + shift[None, :])
        diff = _kept(below, _diff(dy, second, at, inside, passed), at, inside)
        total += diff
        products += diff * centred
        if other_dy is not None:
            diff = _kept(other_below, _diff(other_dy, other_second, at, inside, passed), at, inside)
            other_total += diff
            other_products += diff * centred
    _store_sums(sums, 0, total, products, columns, there, channels)
    if other_dy is not None:
        _store_sums(sums, 1, other_total, other_products, columns, there, channels)


@triton.jit
def finish_backward(
    sums,
    parts,
    rows,
    channels,
    scale,
    saved,
    found,
    OWN: tl.constexpr,
    COLUMNS: tl.constexpr = FINISHED,
):
    """found (flows, 5, C): the diffs of scale and bias; a of dx = a dy + b (x - mean) + c.

    With OWN statistics b and c, too; otherwise they are 0 and not stored.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < channels
    sums += tl.program_id(1) * 2 * parts * channels
    found += tl.program_id(1) * 5 * channels
    dbias = _add_parts(sums, 0, parts, columns, there, channels, COLUMNS)
    products = _add_parts(sums, parts, parts, columns, there, channels, COLUMNS)
    inverse_std = _channel(saved, 0, columns, there, channels)
    dscale = products * inverse_std
    a = inverse_std
    if scale is not None:
        a *= _channel(scale, 0, columns, there, channels)
    tl.store(found + columns, dscale, mask=there)
    tl.store(found + channels + columns, dbias, mask=there)
    tl.store(found + 2 * channels + columns, a, mask=there)
    if OWN:
        tl.store(found + 3 * channels + columns, -a * inverse_std * dscale / rows, mask=there)
        tl.store(found + 4 * channels + columns, -a * dbias / rows, mask=there)


@triton.jit
def _store_dx(
    dy,
    second,
    below,
    dx,
    value,
    passed,
    found,
    at,
    inside,
    columns,
    there,
    channels,
    OWN: tl.constexpr,
):
    """dx = a diff, plus b value + c with OWN statistics; the diff of `below` or as it came."""
    a = _channel(found, 2, columns, there, channels)
    if below is not None:
        diff = tl.load(below + at, mask=inside, other=0).to(tl.float32)
    else:
        diff = _diff(dy, second, at, inside, passed)
    diff *= a[None, :]
    if OWN:
        b = _channel(found, 3, columns, there, channels)
        c = _channel(found, 4, columns, there, channels)
        diff = diff + b[None, :] * value + c[None, :]
    tl.store(dx + at, diff.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def normalize_backward(
    dy,
    other_dy,
    second,
    other_second,
    below,
    other_below,
    dx,
    other_dx,
    x,
    mean,
    saved,
    found,
    rows,
    channels,
    RECTIFIED: tl.constexpr,
    OWN: tl.constexpr,
    HEIGHT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """dx of the flows that want it, from what `sum_backward` and `finish_backward` left."""
    columns, there = _columns(channels, COLUMNS)
    center = _channel(mean, 0, columns, there, channels)
    at, inside = _tile(tl.program_id(0) * HEIGHT, columns, there, rows, channels, HEIGHT)
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    passed = inside
    if RECTIFIED:
        factor = _channel(saved, 1, columns, there, channels)
        shift = _channel(saved, 2, columns, there, channels)
        passed = _passed(value * factor[None, :] + shift[None, :])
    value -= center[None, :]
    if dx is not None:
        _store_dx(
            dy, second, below, dx, value, passed, found, at, inside, columns, there, channels, OWN
        )
    if other_dx is not None:
        _store_dx(
            other_dy,
            other_second,
            other_below,
            other_dx,
            value,
            passed,
            found + 5 * channels,
            at,
            inside,
            columns,
            there,
            channels,
            OWN,
        )
