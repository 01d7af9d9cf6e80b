"""Old nets and solvers brought to the current form, as Caffe does it when it reads them.

Three generations: V0 (`layers { layer { type: "conv" } }`), V1 (`layers { type: CONVOLUTION }`)
and the current `layer { type: "Convolution" }`. Every function here returns a new message; an
upgraded message upgrades to itself.
"""

import warnings

from caffe_plain.errors import ParseError, nearest

from ..proto import caffe_pb2
from .forks import adopt_net, adopt_solver

_V1 = caffe_pb2.V1LayerParameter

# V0 type: V1 type, and the message that takes the layer's own parameters.
_V0_TYPES = {
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
_V0_FIELDS = {
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
_V0_COMMON = ("name", "blobs", "blobs_lr", "weight_decay")
_V0_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}

# V1 data layers kept these fields in their own parameters before transform_param took them.
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_TRANSFORM_HOMES = {
    _V1.DATA: "data_param",
    _V1.IMAGE_DATA: "image_data_param",
    _V1.WINDOW_DATA: "window_data_param",
}

_V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "ELTWISE": "Eltwise",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "SLICE": "Slice",
    "TANH": "TanH",
    "WINDOW_DATA": "WindowData",
    "THRESHOLD": "Threshold",
}

# V1 lists with one entry per parameter blob, and their place in ParamSpec.
_V1_PARAM_LISTS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}

_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


def upgrade_net(net):
    """`net` with current layers only, an Input layer, frozen BatchNorm and Caffe's words."""
    if net.layers and net.layer:
        raise ParseError(
            "both 'layer' (current) and 'layers' (old) are used; "
            'write all of them as layer { type: "..." }'
        )
    if any(layer.HasField("layer") for layer in net.layers):
        net = _v0_to_v1(net)
    if net.layers:
        net = _v1_to_current(net)
    return adopt_net(_freeze_batch_norm(_input_to_layer(net)))


def upgrade_solver(solver):
    """`solver` with its type as a string."""
    upgraded = type(solver)()
    upgraded.CopyFrom(solver)
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise ParseError("both 'type' (current) and 'solver_type' (old) are given; keep type")
        name = type(solver).SolverType.Name(solver.solver_type)
        upgraded.type = _SOLVER_TYPES[name]
        upgraded.ClearField("solver_type")
    return adopt_solver(upgraded)


def _v0_to_v1(net):
    """V0 layers as V1 layers; of the net's own fields, only those of V0 nets stay."""
    upgraded = caffe_pb2.NetParameter()
    for field, value in net.ListFields():
        if field.name in ("name", "input", "input_dim", "force_backward"):
            _put(upgraded, field.name, value)
    upgraded.layers.extend(_v0_layer(layer) for layer in _without_padding(net))
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


def _v0_layer(connection):
    """A V0 layer connection as a V1 layer; fields that its type does not have are left out."""
    old = connection.layer
    new = caffe_pb2.V1LayerParameter(bottom=connection.bottom, top=connection.top)
    home = _v0_type(new, old)
    for field, value in old.ListFields():
        name, types = _V0_FIELDS.get(field.name, (None, ""))
        if old.type in types.split():
            _put(getattr(new, home), name, value)
        elif field.name in _V0_TRANSFORM:
            _put(new.transform_param, _V0_TRANSFORM[field.name], value)
        elif field.name in (*_V0_COMMON, home):
            _put(new, field.name, value)
        elif field.name != "type":
            warnings.warn(
                f"layer {old.name!r}: a V0 layer of type {old.type!r} has no "
                f"{field.name!r}; left out",
                stacklevel=2,
            )
    return new


def _v0_type(new, old):
    """Set the type of the V1 layer `new`; the name of its parameter message, if it has one."""
    if not old.HasField("type"):
        return None
    if old.type not in _V0_TYPES:
        raise ParseError(
            f"layer {old.name!r}: unknown V0 type {old.type!r}; {nearest(old.type, _V0_TYPES)}"
        )
    name, home = _V0_TYPES[old.type]
    new.type = new.LayerType.Value(name)
    return home


def _v1_to_current(net):
    upgraded = caffe_pb2.NetParameter()
    upgraded.CopyFrom(net)
    upgraded.ClearField("layers")
    move_transforms = any(map(_has_old_transform, net.layers))
    upgraded.layer.extend(_v1_layer(layer, move_transforms) for layer in net.layers)
    return upgraded


def _v1_layer(old, move_transforms):
    new = caffe_pb2.LayerParameter()
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = _V1_TYPES[old.LayerType.Name(value)]
        elif field.name in _V1_PARAM_LISTS:
            while len(new.param) < len(value):
                new.param.add()
            for spec, item in zip(new.param, value, strict=False):
                setattr(spec, _V1_PARAM_LISTS[field.name], item)
        else:
            _put(new, field.name, value)
    home = _TRANSFORM_HOMES.get(old.type)
    if home and move_transforms:
        _move_transform(getattr(new, home), new.transform_param)
    return new


def _has_old_transform(layer):
    home = _TRANSFORM_HOMES.get(layer.type)
    return home and any(map(getattr(layer, home).HasField, _TRANSFORM_FIELDS))


def _move_transform(home, transform):
    """Move the fields that data layers once kept themselves; like Caffe, even if there are none."""
    home.SetInParent()
    transform.SetInParent()
    for name in _TRANSFORM_FIELDS:
        if home.HasField(name):
            setattr(transform, name, getattr(home, name))
            home.ClearField(name)


def _input_to_layer(net):
    """The net with `input`, `input_shape` and `input_dim` as a first layer of type Input."""
    if not net.input:
        return net
    upgraded = caffe_pb2.NetParameter()
    upgraded.CopyFrom(net)
    for name in ("input", "input_shape", "input_dim", "layer"):
        upgraded.ClearField(name)
    if net.input_shape or net.input_dim:
        layer = upgraded.layer.add(name="input", type="Input", top=net.input)
        layer.input_param.shape.extend(_input_shapes(net))
    upgraded.layer.extend(net.layer)
    return upgraded


def _input_shapes(net):
    count = len(net.input)
    if net.input_shape:
        shapes, unit, each = list(net.input_shape), "input_shape", 1
    else:
        dims, unit, each = net.input_dim, "input_dim", 4
        shapes = [caffe_pb2.BlobShape(dim=dims[i : i + 4]) for i in range(0, len(dims) - 3, 4)]
    if len(shapes) < count:
        raise ParseError(
            f"{count} inputs need {each * count} {unit}, found "
            f"{len(getattr(net, unit))}; give {each} for each input"
        )
    return shapes[:count]


def _freeze_batch_norm(net):
    """The net with lr_mult 0 for BatchNorm's three statistics, if it has a spec for each."""
    upgraded = caffe_pb2.NetParameter()
    upgraded.CopyFrom(net)
    for layer in upgraded.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    return upgraded


def _put(message, name, value):
    """Set the field `name`, be it a number, a string, a message or a list of them."""
    target = getattr(message, name)
    if hasattr(target, "extend"):
        target.extend(value if hasattr(value, "extend") else [value])
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)
