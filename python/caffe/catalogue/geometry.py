"""Sliding windows: the kernel, stride, pad and dilation fields of Caffe's vision layers."""

# with larger ones the libraries under PyTorch overflow or end the process
LARGEST = {"kernel_size": 1 << 16, "pad": 1 << 16, "dilation": 1 << 16, "stride": 1 << 12}


def spatial(layer, options, name, axes, default=None):
    """One value per spatial axis from a repeated field such as `kernel_size`.

    Also reads the two-dimensional forms (`kernel_h`, `kernel_w`, `pad_h`, ...).
    """
    values = _values(layer, options, name, axes, default)
    if max(values, default=0) > LARGEST[name]:
        raise layer.error(f"{name} {values}: at most {LARGEST[name]:,} can be computed with")
    return values


def _values(layer, options, name, axes, default):
    stem = name.removesuffix("_size")
    height, width = f"{stem}_h", f"{stem}_w"
    fields = options.DESCRIPTOR.fields_by_name
    if height in fields and (options.HasField(height) or options.HasField(width)):
        if axes != 2:
            raise layer.error(f"{height} and {width} need 2 spatial axes; found {axes}")
        if _given(options, name):
            raise layer.error(f"give either {name} or {height} and {width}, not both")
        return (getattr(options, height), getattr(options, width))
    values = getattr(options, name)
    values = (
        list(values) if fields[name].is_repeated else ([values] if _given(options, name) else [])
    )
    if not values:
        if default is None and axes:
            raise layer.error(f"{name} is missing; give {name}, or {height} and {width}")
        return (default,) * axes
    if len(values) not in (1, axes) and axes:
        raise layer.error(f"{name} has {len(values)} values for {axes} spatial axes")
    return tuple(values if len(values) == axes else values * axes)


def _given(options, name):
    field = options.DESCRIPTOR.fields_by_name[name]
    return bool(getattr(options, name)) if field.is_repeated else options.HasField(name)


def check_positive(layer, **values):
    for name, sizes in values.items():
        if min(sizes, default=1) <= 0:
            raise layer.error(f"{name} must be positive; found {tuple(sizes)}")


def convolved(size, kernel, stride, pad, dilation=1):
    """The output size of a convolution: rounded down."""
    return (size + 2 * pad - (dilation * (kernel - 1) + 1)) // stride + 1


def pooled(size, kernel, stride, pad, ceil=True, clip=True):
    """The output size of a pooling, rounded up or down.

    With `clip` no window starts beyond the image and its left pad. Caffe clips where any axis
    has a pad.
    """
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if ceil else room // stride) + 1
    if clip and (count - 1) * stride >= size + pad:
        count -= 1
    return count
