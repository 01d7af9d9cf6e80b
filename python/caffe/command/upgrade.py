"""upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text.

upgrade_net_proto_text old.prototxt new.prototxt
upgrade_net_proto_binary old.caffemodel new.caffemodel
upgrade_solver_proto_text old_solver.prototxt new_solver.prototxt
"""

from caffe_plain.files import write_atomically
from caffe_plain.glog import say

from ..files.text import read_binary, read_text, write_text
from ..files.upgrade import upgrade_net, upgrade_solver
from ..proto import caffe_pb2
from .flags import program, run


def _run(name, convert, args):
    parser = program(name, f"{name} OLD NEW: write OLD in the current format to NEW.")
    parser.add_argument("old")
    parser.add_argument("new")
    return run(parser, lambda options: convert(options.old, options.new), args)


def _net_text(old, new):
    write_text(new, upgrade_net(read_text(old, caffe_pb2.NetParameter())))
    say("upgrade_net_proto_text", f"Wrote upgraded NetParameter text proto to {new}")


def _net_binary(old, new):
    data = upgrade_net(read_binary(old, caffe_pb2.NetParameter())).SerializeToString()
    write_atomically(new, data)
    say("upgrade_net_proto_binary", f"Wrote upgraded NetParameter binary proto to {new}")


def _solver_text(old, new):
    write_text(new, upgrade_solver(read_text(old, caffe_pb2.SolverParameter())))
    say("upgrade_solver_proto_text", f"Wrote upgraded SolverParameter text proto to {new}")


def net_text(args=None):
    """upgrade_net_proto_text"""
    return _run("upgrade_net_proto_text", _net_text, args)


def net_binary(args=None):
    """upgrade_net_proto_binary"""
    return _run("upgrade_net_proto_binary", _net_binary, args)


def solver_text(args=None):
    """upgrade_solver_proto_text"""
    return _run("upgrade_solver_proto_text", _solver_text, args)
