"""Where a blob's pixels are in another blob, for layers written with NetSpec (pycaffe's coord_map).

A coordinate map is (axis, a, b): coordinate x of the top lies at a * x + b of the bottom, on every
spatial axis from `axis` on; axis None means all axes.
"""

import numpy as np

from caffe_plain.errors import CaffeError

from .net_spec import layers as L

# Layers whose tops have the coordinates of their bottoms.
PASS_THROUGH_LAYERS = [
    "AbsVal",
    "BatchNorm",
    "Bias",
    "BNLL",
    "Dropout",
    "Eltwise",
    "ELU",
    "Log",
    "LRN",
    "Exp",
    "MVN",
    "Power",
    "ReLU",
    "PReLU",
    "Scale",
    "Sigmoid",
    "Split",
    "TanH",
    "Threshold",
    "Clip",
    "Swish",
    "BN",
    "Normalize",
    "ReLU6",
]
CONVOLUTIONS = ["Convolution", "DepthwiseConvolution", "ConvolutionDepthwise"]


class UndefinedMapException(CaffeError):
    """A layer whose tops have no coordinates in its bottoms."""


class AxisMismatchException(CaffeError):
    """Maps of different axes, which cannot be composed."""


class UnconnectedTopsError(CaffeError, RuntimeError):
    """Tops without a common ancestor through layers that keep coordinates."""


class CropError(CaffeError, AssertionError):
    """Tops that no Crop layer can align, or a window that cannot be mapped."""


def conv_params(fn):
    """(axis, stride, kernel size, pad) of a layer that slides a window, dilation included."""
    params = fn.params.get("convolution_param", fn.params)
    given = sorted(name for name in params if name.endswith(("_h", "_w")))
    if given:
        raise CropError(
            f"coord_map: {fn.type_name} with {', '.join(given)}: only equal sizes, "
            "such as kernel_size, stride and pad, can be mapped"
        )
    kernel, dilation, stride, pad = (
        np.array(params.get(name, default), ndmin=1)
        for name, default in (("kernel_size", 1), ("dilation", 1), ("stride", 1), ("pad", 0))
    )
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn):
    """(axis, offset) of a Crop layer."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn):
    """The coordinate map from the tops of a layer to its bottoms."""
    if fn.type_name in (*CONVOLUTIONS, "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset  # the channels come before the first coordinate
    raise UndefinedMapException(
        f"coord_map: the tops of a {fn.type_name} layer have no coordinates in its bottoms"
    )


def compose(base_map, next_map):
    """The map of one layer after that of another."""
    axis, a, b = base_map
    next_axis, next_a, next_b = next_map
    if axis is not None and next_axis is not None and axis != next_axis:
        raise AxisMismatchException(
            f"coord_map: a map from axis {axis} on and one from axis "
            f"{next_axis} on cannot be composed"
        )
    return next_axis if axis is None else axis, a * next_a, a * next_b + b


def inverse(coord_map):
    """The map in the other direction."""
    axis, a, b = coord_map
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from, top_to):
    """The map from the coordinates of `top_from` to those of `top_to`, over a common ancestor."""
    ancestors = dict(_walk(top_from))
    for top, to_map in _walk(top_to):
        if top in ancestors:
            return compose(to_map, inverse(ancestors[top]))
    raise UnconnectedTopsError(
        "coord_map: no way between the two tops through layers that keep coordinates"
    )


def _walk(top):
    """Yield (ancestor, map to it) of a top, itself first."""
    maps, waiting = {top: (None, 1, 0)}, [top]
    while waiting:
        top = waiting.pop(0)
        yield top, maps[top]
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        try:
            for bottom in bottoms:
                if bottom not in maps:
                    maps[bottom] = compose(maps[top], coord_map(top.fn))
                    waiting.append(bottom)
        except UndefinedMapException:
            continue


def crop(top_from, top_to):
    """A Crop layer that cuts `top_from` to the place and size of `top_to`."""
    axis, a, b = coord_map_from_to(top_from, top_to)
    if (np.asarray(a) != 1).any():
        raise CropError(f"crop: the tops differ in scale (a = {a})")
    if (np.asarray(b) > 0).any():
        raise CropError(f"crop: the first top begins inside the second (b = {b}); nothing to cut")
    if (np.round(b) != b).any():
        raise CropError(f"crop: the tops are apart by parts of a pixel (b = {b}); change a pad")
    offset = [int(value) for value in -np.round(np.atleast_1d(b))]
    return L.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
