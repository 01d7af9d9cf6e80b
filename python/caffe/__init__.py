"""Caffe for today's GPUs: pycaffe's names on PyTorch tensors."""

from . import catalogue
from .blob import Blob
from .device import set_device, set_mode_cpu, set_mode_gpu, set_precision, set_random_seed
from .errors import (
    CaffeError,
    DataError,
    LayerError,
    ParseError,
    ShapeError,
    UnknownNameError,
    WeightsError,
)
from .layer import Layer, layer_type_list
from .layer import class_of as layer_class
from .layer import register as register_layer
from .net import Net
from .proto.caffe_pb2 import TEST, TRAIN

__version__ = "1.0.0"
