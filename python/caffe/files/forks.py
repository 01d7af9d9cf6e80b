"""Nets of forks of Caffe in Caffe's own spelling, where it has one."""

from __future__ import annotations

import warnings

from google.protobuf.message import Message

from caffe_plain.errors import ParseError

from ..proto import caffe_pb2
from ..proto.forks import private_fields

_ENGINES = ("MKL2017", "MKLDNN")
# numbers of Caffe's LayerParameter under which forks have fields of their own
_COLLIDING = range(134, 149)
_RECURRENT = ("RNN", "LSTM")
# What changes only how forks compute, or in which precision. Here the engine chooses.
_PERFORMANCE = {
    "NetParameter": "default_forward_type default_backward_type default_forward_math "
    "default_backward_math global_grad_scale global_grad_scale_adaptive "
    "default_conv_algos_override default_cudnn_math_override reduce_buckets engine",
    "LayerParameter": "forward_type backward_type forward_math backward_math engine "
    "quantization_param deletetop deletebottom",
    "ConvolutionParameter": "conv_algos_override cudnn_math_override",
    "BatchNormParameter": "engine",
    "InnerProductParameter": "engine",
    "ConcatParameter": "engine",
    "EltwiseParameter": "engine",
    "ReLUParameter": "fuse",
    "DataParameter": "cache shuffle threads parser_threads",
    "TransformationParameter": "use_gpu_transform",
    "SolverParameter": "share_blobs",
}

_SHUFFLE = ("DataParameter", "shuffle")  # of NVCaffe, which changes what a training sees


def drop_misread(net: caffe_pb2.NetParameter) -> None:
    """Take out of a binary net the options that another type's number was read as.

    A fork's psroi_pooling_param = 148 reads as clip_param. Only options of the layer's own type are
    its own: name, type, bottoms, tops and blobs of a fork's layers stay.
    """
    for layer in net.layer:
        for field, _ in layer.ListFields():
            stem = field.name.removesuffix("_param").replace("_", "")
            own = layer.type in _RECURRENT if stem == "recurrent" else layer.type.lower() == stem
            if field.number in _COLLIDING and not own:
                layer.ClearField(field.name)


def adopt_net(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Change `net`, which has current layers, to Caffe's spelling; return it.

    Fields that concern only speed are taken out, with one warning that names them.
    """
    _drop_performance(net)
    for layer in net.layer:
        if layer.HasField("pooling_param"):
            _adopt_rounding(layer.pooling_param)
        if layer.HasField("convolution_param"):
            _adopt_holes(layer)
    return net


def adopt_solver(solver: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """The same for a SolverParameter; what changes the learning rate stays."""
    for name in _PERFORMANCE["SolverParameter"].split():
        if solver.HasField(name):
            _warn([name])
            solver.ClearField(name)
    return solver


def _drop_performance(net):
    dropped = {}
    for message, field in list(private_fields(net)):
        kind = message.DESCRIPTOR.name
        if (kind, field.name) == _SHUFFLE and message.shuffle:
            warnings.warn(
                "data_param { shuffle: true }: not supported; records come in the database's own "
                "order: shuffle them when it is made (convert_imageset -shuffle)",
                stacklevel=2,
            )
            message.ClearField(field.name)
        elif field.name in _PERFORMANCE.get(kind, "").split():
            dropped[f"{kind}.{field.name}"] = None
            message.ClearField(field.name)
    for layer in net.layer:
        for field, options in layer.ListFields():
            if field.message_type and not hasattr(options, "add") and _has_foreign_engine(options):
                dropped[f"{options.DESCRIPTOR.name}.engine"] = None
                options.ClearField("engine")
    if dropped:
        _warn(list(dropped))


def _has_foreign_engine(options: Message) -> bool:
    field = options.DESCRIPTOR.fields_by_name.get("engine")
    if not field or not field.enum_type or not options.HasField("engine"):
        return False
    return field.enum_type.values_by_number[options.engine].name in _ENGINES


def _warn(names):
    warnings.warn(
        f"{', '.join(names)}: accepted without effect; in forks of Caffe this concerns how fast or "
        "in which precision they compute",
        stacklevel=2,
    )


def _adopt_rounding(pooling):
    """ceil_mode of PSPNet's fork is Caffe's round_mode."""
    if pooling.HasField("ceil_mode"):
        modes = caffe_pb2.PoolingParameter
        pooling.round_mode = modes.CEIL if pooling.ceil_mode else modes.FLOOR
        pooling.ClearField("ceil_mode")


def _adopt_holes(layer):
    """hole of DeepLab's first versions is Caffe's dilation."""
    options = layer.convolution_param
    holes = list(options.hole)
    if options.HasField("hole_h") or options.HasField("hole_w"):
        holes = [options.hole_h or 1, options.hole_w or 1]
    if holes and options.dilation:
        raise ParseError(f"layer {layer.name!r}: both hole and dilation are given; keep dilation")
    options.dilation.extend(holes)
    for name in ("hole", "hole_h", "hole_w"):
        options.ClearField(name)
