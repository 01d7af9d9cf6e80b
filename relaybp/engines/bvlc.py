"""An original BVLC Caffe, as the driver uses it: through pycaffe's public names."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Callable

import numpy as np

from caffe_plain.extra import in_force
from caffe_plain.files import write_atomically
from caffe_plain.lr_policy import POLICIES, learning_rate

from .. import backward
from ..errors import RelayError
from ..flows import Flow, frozen
from ..graph import Graph
from ..run_folder import read, read_extra, write
from .interface import Engine, Step, check_same

# fields of a SolverParameter
TRAIN_NETS = ("net", "net_param", "train_net", "train_net_param")
TESTS = ("test_net", "test_net_param", "test_iter", "test_state", "test_interval")


class Bvlc(Engine):
    """Runs one backward range after another; each loss with its own step has its own solver."""

    trains_together = False

    def register_layers(self) -> None:
        """Nothing to do: Caffe's layers are compiled in and the project's own are Python layers."""

    # ---- the machine -------------------------------------------------------------------------

    def set_precision(self, precision: str) -> None:
        raise RelayError(f"precision {precision}: an original Caffe computes in fp32")

    def fix_ways(self) -> None:
        """Nothing to do: it has one way for everything."""

    def gpu_count(self) -> int:
        """0: pycaffe does not report it, so "auto" means the CPU."""
        return 0

    def keep_freed_memory(self) -> None:
        pass

    def facts(self) -> list[tuple[str, str]]:
        return [("engine", "an original Caffe: see `caffe device_query` for its devices")]

    # ---- solvers -----------------------------------------------------------------------------

    def make_solver(self, path: str, extra: str | None = None, prefix: str = "") -> BvlcSolver:
        fields = in_force(read_extra(extra))
        if fields:
            raise RelayError(
                f"{extra}: an original Caffe has no {', '.join(fields)}: use this repository's "
                f"engine, or leave it out: {' '.join(f'--set {name}=' for name in fields)}"
            )
        if not prefix:
            return BvlcSolver(self.caffe, path)
        param = read(path, self.pb.SolverParameter())
        param.snapshot_prefix = prefix
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, os.path.basename(path))
            write(copy, param)
            return BvlcSolver(self.caffe, copy)

    def wrap(self, solver: Any, path: str | None) -> BvlcSolver:
        if isinstance(solver, BvlcSolver):
            return solver
        if path is None:
            raise RelayError(
                "attach: a solver of an original Caffe does not tell its settings; name its file "
                'too: attach(solver, relay, param="solver.prototxt")'
            )
        return BvlcSolver(self.caffe, path, solver)

    def net_param(self, solver: BvlcSolver) -> Any:
        param = solver.param
        for field in ("train_net_param", "net_param"):
            if param.HasField(field):
                return getattr(param, field)
        return read(param.net or param.train_net, self.pb.NetParameter())

    def test_net_param(self, solver: BvlcSolver, index: int) -> Any:
        param = solver.param
        if index < len(param.test_net_param):
            return param.test_net_param[index]
        index -= len(param.test_net_param)
        if index < len(param.test_net):
            return read(param.test_net[index], self.pb.NetParameter())
        return self.net_param(solver)

    def make_steps(
        self, solver: BvlcSolver, flows: list, own_momentum: bool, scaled: bool
    ) -> list[Step]:
        if not own_momentum:
            raise RelayError(
                "own_momentum: false: an original Caffe cannot update some parameters "
                "with a momentum that others share; use this repository's engine"
            )
        if scaled:
            check_scalable(solver.param)
        prefix, net = solver.param.snapshot_prefix, self.net_param(solver)
        prefixes = [f"{prefix}.{flow.loss}" for flow in flows[:-1]] + [prefix]
        steps = [BvlcStep(solver, flow, net, at) for flow, at in zip(flows, prefixes)]
        solver.adopt(steps[-1].inner)
        return list(steps)

    def count_iteration(self, solver: BvlcSolver) -> None:
        """Nothing to do: each step's own solver has already counted."""

    # ---- nets --------------------------------------------------------------------------------

    def forward(self, net: Any) -> float:
        return net._forward(0, len(net.layers) - 1)

    def number(self, loss: float, divisor: float = 1) -> float:
        return loss / divisor

    def value(self, blob: Any) -> float:
        return float(blob.data)

    def backward(self, net: Any, flows: list | None, fused: bool = True) -> Callable[[], None]:
        if flows is None:
            return backward.Whole(net)
        graph = Graph(net)
        for _, layers in graph.parameters(self.address):
            if len(set(layers)) > 1:  # a layer would reset what another has added
                raise RelayError(
                    "layers {!r} and {!r} share parameters: relay on an original Caffe "
                    "cannot keep their diffs apart; use this repository's engine".format(
                        *[graph.names[index] for index in layers[:2]]
                    )
                )
        return backward.Passes(net, flows)

    def check_repeated(self, graph: Graph, flows: list, what: str) -> None:
        """Refuse several backward passes through a Scale in place.

        NOTE: BVLC's Scale overwrites the input it saved in its first backward, so the gradient of
        its factor is wrong from the second backward pass after a forward pass on.
        """
        for index, kind in enumerate(graph.types):
            if (
                kind == "Scale"
                and graph.tops[index][0] == graph.bottoms[index][0]
                and len(graph.layers[index].blobs)
                and sum(index in flow.layers for flow in flows) > 1
            ):
                raise RelayError(
                    f"{what}: layer {graph.names[index]!r} (Scale) runs in place, and an "
                    "original Caffe can run its backward only once after a forward; give "
                    "its top another name, or use this repository's engine"
                )

    def freeze(self, solver: BvlcSolver, names: set[str], source: str) -> None:
        """Refuse layers that learn: only the net's own file can freeze them."""
        learning = names - frozen(Graph(solver.net), self.net_param(solver))
        if learning:
            name = min(learning)
            raise RelayError(
                f"{source}: frozen layer {name!r} learns in the net; for an original "
                f"Caffe give it {len(solver.net.params[name])} times param {{ lr_mult: 0 }}"
            )

    def keep_values(self, net: Any, blobs: bool | list[str], diffs: bool) -> None:
        """Nothing to do: an original Caffe keeps everything."""

    def keeping_diffs(self, net: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def looking_inside(self, net: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def copies(self, blobs: list) -> Callable[[], None]:
        kept = [(blob, blob.data.copy()) for blob in blobs]

        def put_back() -> None:
            for blob, values in kept:
                blob.data[...] = values

        return put_back

    def random_state(self) -> None:
        """Nothing: pycaffe shows no random generator."""

    def set_random_state(self, state: None) -> None:
        """Nothing to do: it goes on."""

    def finite(self, solver: BvlcSolver, loss: float) -> float:
        diffs = (blob.diff for blobs in solver.net.params.values() for blob in blobs)
        return float(np.isfinite(loss) and all(np.isfinite(diff).all() for diff in diffs))

    def release(self, solver: BvlcSolver) -> None:
        """Nothing to do: no update has been left out."""

    def address(self, blob: Any) -> int:
        return blob.data.__array_interface__["data"][0]

    def scale_diff(self, blob: Any, factor: float) -> None:
        blob.diff[...] *= factor


class BvlcSolver:
    """BVLC's solver, with the state that pycaffe does not expose.

    path: its solver.prototxt; solver: pycaffe's solver of that file, by default created here.
    """

    def __init__(self, caffe: Any, path: str, solver: Any = None):
        self.caffe, pb = caffe, caffe.proto.caffe_pb2
        self.param = read(path, pb.SolverParameter())
        if self.param.snapshot_format == pb.SolverParameter.HDF5:
            raise RelayError(f"{path}: on BVLC Caffe the driver needs snapshot_format: BINARYPROTO")
        if self.param.lr_policy not in POLICIES:
            raise RelayError(
                f"{path}: lr_policy {self.param.lr_policy!r}: an original Caffe has only "
                + ", ".join(POLICIES)
            )
        if solver is not None:
            check_same(solver, self.param, path)
        else:
            for net in filter(None, (self.param.net, self.param.train_net, *self.param.test_net)):
                read(net, pb.NetParameter())  # which refuses Python layers from elsewhere
        self._solver = solver or caffe.get_solver(path)
        self.net, self.test_nets = self._solver.net, self._solver.test_nets

    is_over = False  # an original Caffe knows no early stopping

    @property
    def iter(self) -> int:
        """How many updates the weights have received."""
        return self._solver.iter

    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return learning_rate(self.param, self.iter)

    def apply_update(self) -> None:
        """One step with the gradients in the net's diffs; counts the iteration."""
        self._solver.apply_update()

    def observe_loss(self, loss: float) -> None:
        """Nothing to do: no policy of an original Caffe uses the loss."""

    def finish_reports(self) -> None:
        """Nothing to do: an original Caffe reports at once."""

    def averaged(self) -> AbstractContextManager[None]:
        """Nothing to do: an original Caffe averages no weights."""
        return nullcontext()

    def observe_test(self, found: list) -> None:
        """Nothing to do, as for the loss."""

    def snapshot(self) -> str:
        """Write PREFIX_iter_N.caffemodel and .solverstate; return the path of the state."""
        self._solver.snapshot()
        return f"{self.param.snapshot_prefix}_iter_{self.iter}.solverstate"

    def restore(self, path: str) -> None:
        """Continue from a .solverstate."""
        self._solver.restore(path)

    def adopt(self, inner: Any) -> None:
        """Count, save and restore with another BVLC solver, whose net shares this one's weights."""
        self._solver = inner


class BvlcStep(Step):
    """The update of one flow's parameters by a solver of its own, whose net learns only those.

    That net shares the weights and never runs, so its blobs take no memory.
    """

    own_momentum = True

    def __init__(self, solver: BvlcSolver, flow: Flow, net_param: Any, prefix: str):
        self.solver, self.loss, self.prefix = solver, flow.loss, prefix
        graph = Graph(solver.net)
        net = step_net(graph, flow, net_param)
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

    def __call__(self, factor: float) -> None:
        for blob, twin, decay in self.blobs:
            twin.diff[...] = blob.diff
            if factor != 1:
                # Caffe adds decay w, then multiplies by the rate
                twin.diff[...] = factor * twin.diff - (1 - factor) * decay * blob.data
        self.inner.apply_update()

    def save(self, path: str) -> None:
        self.inner.snapshot()
        written = f"{self.prefix}_iter_{self.inner.iter}"
        with open(written + ".solverstate", "rb") as file:
            state = self.solver.caffe.proto.caffe_pb2.SolverState.FromString(file.read())
        state.ClearField("learned_net")
        write_atomically(path, state.SerializeToString())
        for ending in (".solverstate", ".caffemodel"):
            os.remove(written + ending)

    def restore(self, path: str) -> None:
        self.inner.restore(path)


def check_scalable(param: Any) -> None:
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


def step_net(graph: Graph, flow: Flow, net: Any) -> Any:
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


def _make_solver(solver: BvlcSolver, net: Any, prefix: str) -> Any:
    """A BVLC solver for the net with the settings of `solver`, but without tests."""
    param = type(solver.param)()
    param.CopyFrom(solver.param)
    for field in (*TRAIN_NETS, *TESTS):
        param.ClearField(field)
    param.display = 0
    param.snapshot_prefix = prefix
    with tempfile.TemporaryDirectory(prefix="relaybp-") as folder:
        param.net = os.path.join(folder, "net.prototxt")
        write(param.net, net)
        path = os.path.join(folder, "solver.prototxt")
        write(path, param)
        return solver.caffe.get_solver(path)
