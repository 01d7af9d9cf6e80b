"""Test nets that are made of parts of a run's net, with the run's weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe_plain.phases import TEST, layers_of, state_of

from .. import engines
from ..errors import RelayError
from ..run_folder import write

PROB = "prob"  # the blob of softmax scores


def prediction_layers(pb: Any, net_param: Any, loss: str | None = None) -> tuple[list[Any], str]:
    """(the TEST layers from the data to a loss's scores, the scores' blob)."""
    present = layers_of(net_param, state_of(net_param, TEST))
    losses = [
        layer
        for layer in present
        if layer.type == "SoftmaxWithLoss" and (loss is None or layer.name == loss)
    ]
    if not losses:
        raise RelayError(
            f"net {net_param.name!r}: no SoftmaxWithLoss layer {loss or ''} to take the scores of"
        )
    scores = losses[-1].bottom[0]
    needed, found = {scores}, []
    for layer in reversed(present[: present.index(losses[-1])]):
        if layer.bottom and needed.intersection(layer.top):
            needed.update(layer.bottom)
            found.append(pb.LayerParameter())
            found[-1].CopyFrom(layer)
            del found[-1].include[:], found[-1].exclude[:]
    return found[::-1], scores


def net_of(
    caffe: Any,
    layers: Sequence[Any],
    data: str,
    shape: tuple[int, ...],
    weights: str | None,
    to_data: bool = False,
) -> Any:
    """A TEST net of the layers over an Input `data` of that shape, with weights by their names.

    to_data: whether a backward pass computes the gradient of the data, too.
    """
    pb = caffe.proto.caffe_pb2
    source = pb.LayerParameter(name=data + "_input", type="Input", top=[data])
    source.input_param.shape.add(dim=shape)
    return build(caffe, [source, *layers], weights, to_data)


def build(caffe: Any, layers: Sequence[Any], weights: str | None, to_data: bool = False) -> Any:
    """A TEST net of the layers, with weights by their names; without any if weights is None.

    to_data: see `net_of`.

    Raises RelayError where the file lacks a layer, which would be tested as it was initialised.
    """
    param = caffe.proto.caffe_pb2.NetParameter(name="evaluation", force_backward=to_data)
    param.layer.extend(layers)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        write(path, param)
        net = caffe.Net(path, caffe.TEST, weights=weights)
    missing = set(net.params).difference(_layers_in(caffe, weights)) if weights else ()
    if missing:
        raise RelayError(
            f"{weights}: no weights of {', '.join(sorted(missing)[:5])} ({len(missing)} of the "
            f"{len(net.params)} layers with weights): it belongs to another net"
        )
    engines.of(caffe).keep_values(net, blobs=False, diffs=False)
    return net


def _layers_in(caffe: Any, weights: str) -> set[str]:
    """The names of the layers that a file of weights has blobs of."""
    if weights.endswith(".h5"):
        import h5py  # here, because few snapshots are HDF5

        with h5py.File(weights, "r") as file:
            return {name for name, blobs in file["data"].items() if len(blobs)}
    param = caffe.proto.caffe_pb2.NetParameter()
    with open(weights, "rb") as file:
        param.ParseFromString(file.read())
    return {layer.name for layer in [*param.layer, *param.layers] if layer.blobs}


def softmax_of(pb: Any, scores: str) -> Any:
    """The layer that makes the blob PROB from `scores`."""
    return pb.LayerParameter(name=PROB, type="Softmax", bottom=[scores], top=[PROB])


def run(net: Any, data: str, values: np.ndarray, top: str) -> np.ndarray:
    """What a net of `net_of` makes of the values of its input, a copy of the blob `top`."""
    net.blobs[data].reshape(*values.shape)
    net.reshape()
    net.blobs[data].data[...] = values
    net._forward(0, len(net.layers) - 1)
    return np.array(net.blobs[top].data)
