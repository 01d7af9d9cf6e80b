"""A training net for planning: one image, no data to read, no weights to fill."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from caffe_plain.phases import TEST, TRAIN, State, is_in_net, layers_of

from ..data_layers import DataLayer
from ..errors import RelayError
from ..graph import Graph
from ..run_folder import STANDARD_STAGE, write

TRAINING = State(TRAIN)


def blueprint(pb: Any, net_param: Any, size: list[int] | None = None) -> Any:
    """The TRAIN layers of a NetParameter, of batch 1, with an Input for the data layers.

    size: (channels, height, width) of the images; by default the data layer's crop_size.
    """
    kept = pb.NetParameter(name=net_param.name)
    for layer in layers_of(net_param, TRAINING):
        added = kept.layer.add()
        if layer.bottom or layer.type == "Parameter":
            added.CopyFrom(layer)
            clear_fillers(added)
        else:
            _make_input(added, layer, size)
    if not kept.layer:
        raise RelayError(f"net {net_param.name!r} has no layers for training")
    return kept


def graph_of(caffe: Any, net_param: Any, size: list[int] | None = None) -> Graph:
    """The Graph of the training net that a NetParameter describes; see `blueprint`."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        write(path, blueprint(caffe.proto.caffe_pb2, net_param, size))
        return Graph(caffe.Net(path, caffe.TRAIN))


def without_branches(pb: Any, net_param: Any) -> Any:
    """The NetParameter without the layers that the stage `standard` leaves out of every phase."""
    states = [State(phase, stage=[STANDARD_STAGE]) for phase in (TRAIN, TEST)]
    kept = pb.NetParameter()
    kept.CopyFrom(net_param)
    del kept.layer[:]
    kept.layer.extend(
        layer for layer in net_param.layer if any(is_in_net(layer, state) for state in states)
    )
    return kept


def _make_input(added, layer, size):
    added.name, added.type = layer.name, "Input"
    added.top.extend(layer.top)
    if layer.type == "Input":
        for shape in layer.input_param.shape:
            added.input_param.shape.add(dim=[1, *shape.dim[1:]])
        return
    crop = DataLayer(layer).get("crop_size")
    if not (size or crop):
        raise RelayError(
            f"data layer {layer.name!r} has no crop_size to tell the size of its "
            "images; give --size 3x224x224"
        )
    added.input_param.shape.add(dim=[1, *(size or (3, crop, crop))])
    for _ in layer.top[1:]:
        added.input_param.shape.add(dim=[1])


def clear_fillers(layer):
    """Leave the weights zero: a plan does not read them, and random ones take seconds to draw."""
    for field, options in layer.ListFields():
        if (
            field.name.endswith("_param")
            and field.message_type
            and not isinstance(options, (list, tuple))
            and hasattr(options, "ListFields")
        ):
            for name in ("weight_filler", "bias_filler", "filler"):
                if name in options.DESCRIPTOR.fields_by_name:
                    options.ClearField(name)
