"""A solver of an original BVLC Caffe, with what the driver also asks for."""

import os
import tempfile

from caffe_plain.lr_policy import learning_rate

from .errors import RelayError
from .graph import Graph
from .run_folder import read, write


class BvlcSolver:
    """BVLC's solver; its `apply_update` counts the iterations, as this repository's does."""

    def __init__(self, caffe, path):
        self.caffe, pb = caffe, caffe.proto.caffe_pb2
        self.param = read(path, pb.SolverParameter())
        if self.param.snapshot_format == pb.SolverParameter.HDF5:
            raise RelayError(f"{path}: on BVLC Caffe the driver needs snapshot_format: BINARYPROTO")
        self._solver = caffe.get_solver(path)
        self.net, self.test_nets = self._solver.net, self._solver.test_nets

    @property
    def iter(self):
        """How many updates the weights have had."""
        return self._solver.iter

    def learning_rate(self):
        """The learning rate of the next update."""
        return learning_rate(self.param, self.iter)

    def apply_update(self):
        """One step with the gradients in the net's diffs; counts the iteration."""
        self._solver.apply_update()

    def snapshot(self):
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        self._solver.snapshot()
        return f"{self.param.snapshot_prefix}_iter_{self.iter}.solverstate"

    def restore(self, path):
        """Continue from a .solverstate."""
        self._solver.restore(path)

    def adopt(self, inner):
        """Count, save and restore by another BVLC solver, whose net shares this one's weights."""
        self._solver = inner


class BvlcStep:
    """The update of one flow's parameters: a solver of its own, whose net learns only those.

    That net shares the weights and never runs, so its blobs take no memory.
    """

    own_momentum = True

    def __init__(self, solver, flow, prefix):
        self.solver, self.loss, self.prefix = solver, flow.loss, prefix
        graph, source = Graph(solver.net), solver.param.net or solver.param.train_net
        net = step_net(graph, flow, read(source, solver.caffe.proto.caffe_pb2.NetParameter()))
        self.inner = _make_solver(solver, net, prefix)
        self.inner.net.share_with(solver.net)
        specs = {layer.name: layer.param for layer in net.layer}
        self.blobs = []  # (blob of the net that runs, its twin, its weight decay)
        for name in [graph.names[index] for index in sorted(flow.layers)]:
            for index, blob in enumerate(solver.net.params.get(name, ())):
                mult = specs[name][index].decay_mult if index < len(specs[name]) else 1.0
                self.blobs.append(
                    (blob, self.inner.net.params[name][index], solver.param.weight_decay * mult)
                )

    def __call__(self, iteration, factor):
        for blob, twin, decay in self.blobs:
            twin.diff[...] = blob.diff
            if factor != 1:
                # Caffe adds decay w, then multiplies by the rate
                twin.diff[...] = factor * twin.diff - (1 - factor) * decay * blob.data
        self.inner.apply_update()

    def save(self, path):
        """Write the momentum, as a .solverstate without weights."""
        self.inner.snapshot()
        written = f"{self.prefix}_iter_{self.inner.iter}"
        with open(written + ".solverstate", "rb") as file:
            state = self.solver.caffe.proto.caffe_pb2.SolverState.FromString(file.read())
        state.ClearField("learned_net")
        with open(path + ".part", "wb") as file:
            file.write(state.SerializeToString())
        os.replace(path + ".part", path)
        for ending in (".solverstate", ".caffemodel"):
            os.remove(written + ending)

    def restore(self, path):
        """Read what `save` wrote."""
        self.inner.restore(path)


def check_scalable(param):
    """Refuse settings under which BVLC's update cannot be scaled from outside."""
    if (
        param.type not in ("SGD", "Nesterov")
        or param.clip_gradients >= 0
        or param.regularization_type != "L2"
    ):
        raise RelayError(
            "step: normalize, loss_ratio_guard: on an original Caffe they need a "
            "solver of type SGD or Nesterov with L2 decay and without "
            "clip_gradients; use this repository's engine"
        )


def step_net(graph, flow, net):
    """A NetParameter in which only the parameters of a flow learn, and no batch is read."""
    kept = type(net)(name=net.name, state=net.state)
    for index, name in enumerate(graph.names):
        if not graph.bottoms[index] and not len(graph.layers[index].blobs):
            layer = kept.layer.add(name=name, type="Input", top=graph.tops[index])
            for top in graph.tops[index]:
                layer.input_param.shape.add(dim=graph.net.blobs[top].shape)
    sources = {layer.name for layer in kept.layer}
    for layer in net.layer:
        if layer.name in graph.index and layer.name not in sources:
            kept.layer.add().CopyFrom(layer)
            if graph.index[layer.name] not in flow.layers:
                del kept.layer[-1].param[:]
                for _ in graph.layers[graph.index[layer.name]].blobs:
                    kept.layer[-1].param.add(lr_mult=0, decay_mult=0)
    return kept


def _make_solver(solver, net, prefix):
    """A BVLC solver for the net with the settings of `solver`, but without tests."""
    param = type(solver.param)()
    param.CopyFrom(solver.param)
    for field in ("train_net", "test_net", "test_iter", "test_state", "test_interval"):
        param.ClearField(field)
    param.display = 0
    param.snapshot_prefix = prefix
    with tempfile.TemporaryDirectory(prefix="relaybp-") as folder:
        param.net = os.path.join(folder, "net.prototxt")
        write(param.net, net)
        path = os.path.join(folder, "solver.prototxt")
        write(path, param)
        return solver.caffe.get_solver(path)
