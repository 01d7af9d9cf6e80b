"""A solver of an original BVLC Caffe, with the two things that the driver also asks for."""

from .engine import plain_module
from .errors import RelayError
from .run_folder import read


class BvlcSolver:
    """BVLC's solver; its `apply_update` counts the iterations, as this repository's does."""

    def __init__(self, caffe, path):
        pb = caffe.proto.caffe_pb2
        self.param = read(path, pb.SolverParameter())
        if self.param.snapshot_format == pb.SolverParameter.HDF5:
            raise RelayError(f"{path}: on BVLC Caffe the driver needs "
                             "snapshot_format: BINARYPROTO")
        self._solver = caffe.get_solver(path)
        self.net, self.test_nets = self._solver.net, self._solver.test_nets
        self.apply_update, self.restore = self._solver.apply_update, self._solver.restore

    @property
    def iter(self):
        """How many updates the weights have had."""
        return self._solver.iter

    def learning_rate(self):
        """The learning rate of the next update."""
        return plain_module("lr_policy").learning_rate(self.param, self.iter)

    def snapshot(self):
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        self._solver.snapshot()
        return f"{self.param.snapshot_prefix}_iter_{self.iter}.solverstate"
