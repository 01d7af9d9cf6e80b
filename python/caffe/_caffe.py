"""The names of pycaffe's binary module caffe._caffe, as scripts use them.

Where the original returns C++ vectors, these are plain lists.
"""

from caffe_plain.glog import init_log, log

from .blob import Blob, BlobVec
from .device import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .layer import Layer, layer_type_list
from .net import Net
from .proto.caffe_pb2 import LayerParameter, SolverParameter
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

BoolVec = DtypeVec = IntVec = LayerVec = NetVec = RawBlobVec = StringVec = list

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "Net",
    "NetVec",
    "NesterovSolver",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
