"""Caffe for today's GPUs: pycaffe's names on PyTorch tensors."""

from caffe_plain.errors import (
    CaffeError,
    DataError,
    LayerError,
    ParseError,
    ShapeError,
    UnknownNameError,
    WeightsError,
)
from caffe_plain.glog import init_log, log

from . import _caffe, catalogue, classifier, detector, io, net_spec, proto, pycaffe
from .blob import Blob
from .classifier import Classifier
from .detector import Detector
from .device import (
    gpu_count,
    keep_freed_memory,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_precision,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .layer import Layer, TensorLayer, layer_type_list
from .layer import class_of as layer_class
from .layer import register as register_layer
from .net import Net
from .net_spec import NetSpec, layers, params, to_proto
from .proto import caffe_pb2
from .proto.caffe_pb2 import TEST, TRAIN
from .solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from .timer import Timer
from .training.parallel import NCCL, has_nccl

__version__ = "1.0.0"
