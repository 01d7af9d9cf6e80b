"""Old nets and solvers brought to the current form, as Caffe does it when it reads them.

Three generations: V0 (`layers { layer { type: "conv" } }`), V1 (`layers { type: CONVOLUTION }`)
and the current `layer { type: "Convolution" }`. Every function here returns a new message; an
upgraded message upgrades to itself.
"""

from caffe_plain.errors import ParseError

from ..proto import caffe_pb2
from .forks import adopt_net, adopt_solver
from .v0 import put, v0_to_v1

_V1 = caffe_pb2.V1LayerParameter

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
        net = v0_to_v1(net)
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
            put(new, field.name, value)
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
