"""V0 nets, `layers { layer { type: "conv" } }`, as V1: `layers { type: CONVOLUTION }`."""

import warnings
from typing import Any

from caffe_plain.errors import ParseError, nearest

from ..proto import caffe_pb2

# V0 type: V1 type, and the message that takes the layer's own parameters.
TYPES = {
    "accuracy": ("ACCURACY", None),
    "bnll": ("BNLL", None),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", None),
    "flatten": ("FLATTEN", None),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", "hdf5_output_param"),
    "im2col": ("IM2COL", None),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", None),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", None),
    "sigmoid": ("SIGMOID", None),
    "softmax": ("SOFTMAX", None),
    "softmax_loss": ("SOFTMAX_LOSS", None),
    "split": ("SPLIT", None),
    "tanh": ("TANH", None),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}

# V0 field: its name in the layer's own parameters, and the V0 types that have it.
_FIELDS = {
    "num_output": ("num_output", "conv innerproduct"),
    "biasterm": ("bias_term", "conv innerproduct"),
    "weight_filler": ("weight_filler", "conv innerproduct"),
    "bias_filler": ("bias_filler", "conv innerproduct"),
    "pad": ("pad", "conv pool"),
    "kernelsize": ("kernel_size", "conv pool"),
    "group": ("group", "conv"),
    "stride": ("stride", "conv pool"),
    "pool": ("pool", "pool"),
    "dropout_ratio": ("dropout_ratio", "dropout"),
    "local_size": ("local_size", "lrn"),
    "alpha": ("alpha", "lrn"),
    "beta": ("beta", "lrn"),
    "k": ("k", "lrn"),
    "source": ("source", "data hdf5_data images window_data infogain_loss"),
    "batchsize": ("batch_size", "data hdf5_data images window_data"),
    "rand_skip": ("rand_skip", "data images"),
    "shuffle_images": ("shuffle", "images"),
    "new_height": ("new_height", "images"),
    "new_width": ("new_width", "images"),
    "concat_dim": ("concat_dim", "concat"),
    "det_fg_threshold": ("fg_threshold", "window_data"),
    "det_bg_threshold": ("bg_threshold", "window_data"),
    "det_fg_fraction": ("fg_fraction", "window_data"),
    "det_context_pad": ("context_pad", "window_data"),
    "det_crop_mode": ("crop_mode", "window_data"),
}

# V0 fields of every type: those that keep their name, and those that moved to transform_param.
_COMMON = ("name", "blobs", "blobs_lr", "weight_decay")
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}


def v0_to_v1(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """V0 layers as V1 layers; of the net's own fields, only those of V0 nets stay."""
    upgraded = caffe_pb2.NetParameter()
    for field, value in net.ListFields():
        if field.name in ("name", "input", "input_dim", "force_backward"):
            put(upgraded, field.name, value)
    upgraded.layers.extend(_layer(layer) for layer in _without_padding(net))
    return upgraded


def _without_padding(net):
    """The V0 layers, each padding layer folded into the convolution or pooling it feeds."""
    made_by = dict.fromkeys(net.input)  # blob: the layer whose top it is, None for an input
    kept = []
    for layer in net.layers:
        if not layer.HasField("layer"):
            raise ParseError(
                f"layer {layer.name!r}: V1 and V0 layers are mixed; "
                "write all of them in the same form"
            )
        upgraded = type(layer)()
        upgraded.CopyFrom(layer)
        for index, blob in enumerate(layer.bottom):
            if blob not in made_by:
                raise ParseError(
                    f"layer {layer.layer.name!r}: unknown bottom {blob!r}; {nearest(blob, made_by)}"
                )
            source = made_by[blob]
            if source is not None and source.layer.type == "padding":
                _check_padding(layer, source)
                upgraded.layer.pad = source.layer.pad
                upgraded.bottom[index] = source.bottom[0]
        made_by.update(dict.fromkeys(layer.top, layer))
        if layer.layer.type != "padding":
            kept.append(upgraded)
    return kept


def _check_padding(layer, padding):
    """A padding layer must have 1 bottom and 1 top and feed only convolution and pooling."""
    if layer.layer.type not in ("conv", "pool") or len(layer.bottom) != 1:
        raise ParseError(
            f"layer {layer.layer.name!r}: padding layer {padding.layer.name!r} can feed only a "
            f"conv or pool layer with one bottom, found {layer.layer.type!r} with "
            f"{len(layer.bottom)}; give pad in the layers that need it"
        )
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise ParseError(
            f"layer {padding.layer.name!r}: a padding layer has 1 bottom and 1 top, found "
            f"{len(padding.bottom)} and {len(padding.top)}"
        )


def _layer(connection):
    """A V0 layer connection as a V1 layer; fields that its type does not have are left out."""
    old = connection.layer
    new = caffe_pb2.V1LayerParameter(bottom=connection.bottom, top=connection.top)
    home = _type(new, old)
    for field, value in old.ListFields():
        name, types = _FIELDS.get(field.name, (None, ""))
        if old.type in types.split():
            put(getattr(new, home), name, value)
        elif field.name in _TRANSFORM:
            put(new.transform_param, _TRANSFORM[field.name], value)
        elif field.name in (*_COMMON, home):
            put(new, field.name, value)
        elif field.name != "type":
            warnings.warn(
                f"layer {old.name!r}: a V0 layer of type {old.type!r} has no "
                f"{field.name!r}; left out",
                stacklevel=2,
            )
    return new


def _type(new, old):
    """Set the type of the V1 layer `new`; the name of its parameter message, if it has one."""
    if not old.HasField("type"):
        return None
    if old.type not in TYPES:
        raise ParseError(
            f"layer {old.name!r}: unknown V0 type {old.type!r}; {nearest(old.type, TYPES)}"
        )
    name, home = TYPES[old.type]
    new.type = new.LayerType.Value(name)
    return home


def put(message: Any, name: str, value: Any) -> None:
    """Set the field `name`, be it a number, a string, a message or a list of them."""
    target = getattr(message, name)
    if hasattr(target, "extend"):
        target.extend(value if hasattr(value, "extend") else [value])
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)
