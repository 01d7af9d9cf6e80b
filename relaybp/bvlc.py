"""A solver of an original BVLC Caffe, made to follow a driver of its own.

The driver calls `apply_update` itself. BVLC counts the iterations there since 2018, before only in
`step`. With an older one, wherever the update depends on the iteration (the learning rate drops,
Adam's correction), the counter is set by restoring a snapshot whose iteration was replaced.
"""

import os
import shutil
import tempfile

from .engine import plain_module
from .errors import RelayError


class BvlcSolver:
    """`net`, `test_nets`, `iter` (settable), `apply_update`, `snapshot`, `restore`."""

    def __init__(self, caffe, path):
        from google.protobuf import text_format
        self._pb = caffe.proto.caffe_pb2
        self._rates = plain_module("lr_policy")
        self.param = self._pb.SolverParameter()
        with open(path) as file:
            text_format.Merge(file.read(), self.param)
        if self.param.snapshot_format == self._pb.SolverParameter.HDF5:
            raise RelayError(f"{path}: on BVLC Caffe the driver needs snapshot_format: BINARYPROTO")
        self._solver = caffe.get_solver(path)
        self.net, self.test_nets = self._solver.net, self._solver.test_nets
        self.iter = 0

    def learning_rate(self, iteration=None):
        """The learning rate of an iteration, by default the present one."""
        return self._rates.learning_rate(self.param, self.iter if iteration is None else iteration)

    def apply_update(self):
        """BVLC's ApplyUpdate with this iteration's learning rate; counts the iteration."""
        counted = self._solver.iter
        depends_on_iteration = (self.learning_rate() != self.learning_rate(counted)
                                or self.param.type == "Adam")
        if depends_on_iteration and self.iter != counted:
            folder = tempfile.mkdtemp(prefix="relaybp-")
            try:
                self._solver.restore(self._snapshot_into(os.path.join(folder, "state")))
            finally:
                shutil.rmtree(folder)
        self._solver.apply_update()
        self.iter += 1

    def snapshot(self):
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        return self._snapshot_into("%s_iter_%d" % (self.param.snapshot_prefix, self.iter))

    def restore(self, path):
        """Continue from a .solverstate."""
        with open(path, "rb") as file:
            state = self._pb.SolverState.FromString(file.read())
        self.iter = state.iter
        self._solver.restore(path)

    def _snapshot_into(self, stem):
        """Let BVLC write its snapshot, then give it the true iteration and the name `stem`."""
        self._solver.snapshot()
        written = "%s_iter_%d" % (self.param.snapshot_prefix, self._solver.iter)
        model, state = stem + ".caffemodel", stem + ".solverstate"
        _move(written + ".caffemodel", model)
        with open(written + ".solverstate", "ab") as file:
            # in protobuf's wire format a later value replaces an earlier one
            file.write(self._pb.SolverState(
                iter=self.iter, learned_net=model,
                current_step=self._rates.current_step(self.param, self.iter - 1)
            ).SerializeToString())
        _move(written + ".solverstate", state)
        return state


def _move(source, target):
    if source != target:
        shutil.move(source, target)
