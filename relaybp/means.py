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


def fit_to_records(pb: Any, net: Any) -> None:
    """Let the data layers subtract the mean of each channel where the image does not fit.

    Caffe's Data layer takes a mean image only of the size of every record; photos that keep their
    proportions have none such.
    """
    layers = [layer for layer in data_layers(net.layer) if layer.get("mean_file")]
    if not all(layer.is_scene or _fits(pb, layer) for layer in layers):
        for layer in layers:
            subtract_channel_means(pb, layer)


def subtract_channel_means(pb: Any, layer: DataLayer) -> None:
    """Replace a layer's mean image by the mean of each channel of it."""
    means = channel_means(pb, layer.get("mean_file"))
    layer.clear("mean_file")
    layer.set("mean_value", means)


def _fits(pb: Any, layer: DataLayer) -> bool:
    """Whether the first record has the size of the mean image."""
    mean = read_mean(pb, layer.get("mean_file"))
    try:
        return first_shape(pb, layer.get("source"))[:2] == mean.shape[1:]
    except (ValueError, DecodeError):  # the layer itself says what is wrong with the record
        return True
