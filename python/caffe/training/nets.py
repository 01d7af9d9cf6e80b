"""A solver's settings and the nets that they name, each built for its NetState."""

import os

from caffe_plain.errors import CaffeError

from ..files.text import read_net, read_solver
from ..files.upgrade import upgrade_solver
from ..net import Net
from ..proto import caffe_pb2

_TRAIN_FIELDS = ("train_net_param", "train_net", "net_param", "net")


def read(solver_file):
    """The SolverParameter of a path, or of a SolverParameter, in its current form."""
    if isinstance(solver_file, caffe_pb2.SolverParameter):
        return upgrade_solver(solver_file)
    return read_solver(solver_file)


def folder_of(solver_file):
    """The folder where a solver's own file lies, "" for a SolverParameter."""
    is_message = isinstance(solver_file, caffe_pb2.SolverParameter)
    return "" if is_message else os.path.dirname(solver_file)


def train_net(param, folder=""):
    """The net to train; files that the working directory lacks are looked for in `folder`."""
    given = [name for name in _TRAIN_FIELDS if param.HasField(name)]
    if len(given) != 1:
        raise CaffeError(
            "solver: expected one of net, net_param, train_net, train_net_param; "
            f"found {', '.join(given) or 'none'}"
        )
    return _make(param, getattr(param, given[0]), caffe_pb2.TRAIN, param.train_state, folder)


def test_nets(param, folder=""):
    """The nets to test with: the test_net's own, then the training net's file for the rest."""
    sources = [*param.test_net_param, *param.test_net]
    shared = [getattr(param, name) for name in ("net_param", "net") if param.HasField(name)]
    if shared:
        sources += shared * (len(param.test_iter) - len(sources))
    if len(sources) != len(param.test_iter):
        raise CaffeError(
            f"solver: test_iter has {len(param.test_iter)} values for "
            f"{len(sources)} test nets; give one for each"
        )
    if sources and param.test_interval <= 0:
        raise CaffeError("solver: test nets need a positive test_interval")
    if len(param.test_state) not in (0, len(sources)):
        raise CaffeError(
            f"solver: test_state is given {len(param.test_state)} times for "
            f"{len(sources)} test nets; give none or one for each"
        )
    states = param.test_state or [caffe_pb2.NetState()] * len(sources)
    nets = [
        _make(param, source, caffe_pb2.TEST, state, folder)
        for source, state in zip(sources, states, strict=True)
    ]
    for net in nets:
        net.debug_info = net.debug_info or param.debug_info
    return nets


def _make(param, source, phase, state, folder):
    """A net for the phase, then what the net's own file says, then what the solver says."""
    source = read_net(find(source, folder))
    merged = caffe_pb2.NetState(phase=phase)
    merged.MergeFrom(source.state)
    merged.MergeFrom(state)
    source.state.CopyFrom(merged)
    net = Net(source, merged.phase, level=merged.level)
    for paths in param.weights:
        for path in paths.split(","):
            net.copy_from(find(path.strip(), folder))
    return net


def find(source, folder):
    """A file named in a solver: from the working directory, else beside the solver file."""
    if isinstance(source, str) and not os.path.exists(source):
        beside = os.path.join(folder, source)
        return beside if os.path.exists(beside) else source
    return source
