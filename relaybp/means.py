"""Which mean the data layers of a net subtract: an image, or a value for each channel."""

from __future__ import annotations

import os
from typing import Any

from google.protobuf.message import DecodeError

from .data_layers import DataLayer, data_layers
from .evaluation.preparation import first_shape
from .layers.mean_file import channel_means, read_mean


def set_channel_means(pb: Any, net: Any, path: str) -> None:
    """Make the data layers that subtract a value per channel take those of a mean image."""
    for layer in data_layers(net.layer):
        if layer.get("mean_value") and os.path.exists(path):
            layer.set("mean_value", channel_means(pb, path))


def fit_means(pb: Any, net: Any, crop: int | None) -> list[str]:
    """Let data layers subtract the mean of each channel where the image does not fit.

    Caffe's Data layer takes a mean image only of the size of every record, which photos that keep
    their proportions do not have; a SceneData layer, of the crop if that is changed to `crop`
    pixels. All layers that make one blob change together, so that a net is tested on images less
    the mean that they had in training; those of other blobs stay. Returns a line for each blob
    whose records are of another size.
    """
    of_blobs: dict[str, list[DataLayer]] = {}
    for layer in data_layers(net.layer):
        if layer.get("mean_file"):
            of_blobs.setdefault(next(iter(layer.layer.top), ""), []).append(layer)
    notes = []
    for blob, layers in of_blobs.items():
        misfits = [misfit for layer in layers if (misfit := _misfit(pb, layer))]
        notes += [f"{misfit}: {blob!r} is less the mean of each channel" for misfit in misfits[:1]]
        if misfits or any(_is_cut(pb, layer, crop) for layer in layers):
            for layer in layers:
                _subtract_channel_means(pb, layer)
    return notes


def _misfit(pb: Any, layer: DataLayer) -> str:
    """Which sizes of a Data layer's first record and its mean image differ; "" if none do."""
    source, path = layer.get("source"), layer.get("mean_file")
    mean = read_mean(pb, path).shape[1:]
    try:
        record = mean if layer.is_scene else first_shape(pb, source)[:2]
    except (ValueError, DecodeError):  # the layer itself says what is wrong with the record
        return ""
    if record == mean:
        return ""
    sizes = ["{} x {}".format(*size) for size in (record, mean)]
    return f"Layer {layer.name!r}: {source} has images of {sizes[0]} pixels, {path} of {sizes[1]}"


def _is_cut(pb: Any, layer: DataLayer, crop: int | None) -> bool:
    """Whether a SceneData layer's crop has got another size than its mean image."""
    if not (layer.is_scene and crop):
        return False
    return read_mean(pb, layer.get("mean_file")).shape[1:] != (crop, crop)


def _subtract_channel_means(pb: Any, layer: DataLayer) -> None:
    means = channel_means(pb, layer.get("mean_file"))
    layer.clear("mean_file")
    layer.set("mean_value", means)
