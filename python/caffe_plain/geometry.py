"""Sliding windows: their kernel, stride, pad and dilation, and the sizes that they give.

Reads Caffe's ConvolutionParameter (Convolution, Deconvolution, Im2col) and PoolingParameter. They
give one value for all axes, one for each axis, or one for the height and one for the width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .errors import LayerError

# with larger ones the libraries overflow, or end the process
LARGEST = {"kernel_size": 1 << 16, "pad": 1 << 16, "dilation": 1 << 16, "stride": 1 << 12}


class Window(NamedTuple):
    """A sliding window: of each of its four properties one value per spatial axis, in pixels."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]


def window(options: Any, axes: int = 2, error: Callable[[str], Exception] = LayerError) -> Window:
    """The window of a ConvolutionParameter or PoolingParameter over `axes` spatial axes.

    error: makes the exception of a message, such as a layer's `error`, which adds its name.
    """
    return Window(
        spatial(options, "kernel_size", axes, error=error),
        spatial(options, "stride", axes, 1, error),
        spatial(options, "pad", axes, 0, error),
        spatial(options, "dilation", axes, 1, error)
        if hasattr(options, "dilation")
        else (1,) * axes,
    )


def spatial(
    options: Any,
    name: str,
    axes: int,
    default: int | None = None,
    error: Callable[[str], Exception] = LayerError,
) -> tuple[int, ...]:
    """One value per spatial axis of the field `name`: kernel_size, stride, pad or dilation.

    Without a `default` the field must be given. error: as in `window`.
    """
    values = given(options, name)
    height, width = _sides(name)
    if _has_sides(options, name):
        if axes != 2:
            raise error(f"{height} and {width} need 2 spatial axes; found {axes}")
        if _for_all_axes(options, name):
            raise error(f"give either {name} or {height} and {width}, not both")
    if not values and axes:
        if default is None:
            raise error(f"{name} is missing; give {name}, or {height} and {width}")
        return (default,) * axes
    if len(values) not in (1, axes) and axes:
        raise error(f"{name} has {len(values)} values for {axes} spatial axes")
    values = values if len(values) == axes else values * axes
    if max(values, default=0) > LARGEST[name]:
        raise error(f"{name} {values}: at most {LARGEST[name]:,} can be computed with")
    return values


def given(options: Any, name: str) -> tuple[int, ...]:
    """The values of a field as the message gives them: (height, width), the list, or none.

    As in Caffe, a height without a width makes the width 0, and vice versa.
    """
    if _has_sides(options, name):
        return tuple(getattr(options, side) for side in _sides(name))
    return _for_all_axes(options, name)


def _for_all_axes(options: Any, name: str) -> tuple[int, ...]:
    values = getattr(options, name)
    if isinstance(values, int):  # PoolingParameter's
        return (values,) if options.HasField(name) else ()
    return tuple(values)


def _has_sides(options: Any, name: str) -> bool:
    return any(hasattr(options, side) and options.HasField(side) for side in _sides(name))


def _sides(name: str) -> tuple[str, str]:
    stem = name.removesuffix("_size")
    return f"{stem}_h", f"{stem}_w"


def check_positive(error: Callable[[str], Exception], **values: Sequence[int]) -> None:
    """Raise `error` if a value is 0 or less; the values are named as in the message."""
    for name, sizes in values.items():
        if min(sizes, default=1) <= 0:
            raise error(f"{name} must be positive; found {tuple(sizes)}")


def convolved(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """The output size of a convolution along one axis: rounded down."""
    return (size + 2 * pad - (dilation * (kernel - 1) + 1)) // stride + 1


def deconvolved(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """The output size of a deconvolution along one axis."""
    return stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad


def pooled(
    size: int, kernel: int, stride: int, pad: int, ceil: bool = True, clip: bool = True
) -> int:
    """The output size of a pooling along one axis, rounded up or down.

    With `clip` no window starts beyond the image and its left pad. Caffe clips where any axis
    has a pad.
    """
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if ceil else room // stride) + 1
    if clip and (count - 1) * stride >= size + pad:
        count -= 1
    return count
