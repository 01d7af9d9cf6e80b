"""A pycaffe solver whose losses each train their own flow of layers, in five lines.

solver = caffe.get_solver("solver.prototxt")
relay = relaybp.attach(solver, "relay.prototxt")
relay.step(100)
print(relay.flows, solver.net.blobs["loss"].data)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable

from caffe_plain.glog import SolverLog, show_log
from caffe_plain.means import mean_outputs

from . import engines, snapshots
from .distributed import Alone
from .engines import Engine
from .errors import RelayError
from .flows import Flow
from .graph import Graph
from .relay_file import RelayParameter, check_relay, read_relay
from .schedules import Schedule, Watch, make_schedule
from .scores import Scores, records_of_test


def attach(
    solver: Any,
    relay: str | os.PathLike | Mapping[str, str] | RelayParameter | None = None,
    *,
    param: str | None = None,
    fused: bool = True,
    group: Alone | None = None,
    after_forward: Watch | None = None,
) -> RelaySolver:
    """Let each loss of a solver's net train its own flow of layers.

    solver: what `caffe.get_solver` or `caffe.SGDSolver(...)` makes. relay: the path of a
    relay.prototxt, a RelayParameter, or the flows themselves, {loss: lowest layer that it trains};
    None: every loss trains every layer below it. param: the path of the solver.prototxt; an
    original Caffe needs it, because its solver does not expose its settings. fused: run all flows
    in one sweep, where the engine can; False: one BackwardFromTo for each range, which needs
    `relaybp.engines.load()` before the solver is made, so that its net has the modified Split.
    group: the processes that train together. after_forward: see Schedule.

    The weights of the solver's net and a restored state are kept. Raises RelayError
    where a loss, a layer or a setting does not fit; the error names it and the file.
    """
    import caffe

    engine = engines.of(caffe)
    solver = engine.wrap(solver, param)
    message, source = _relay_parameter(relay)
    schedule = make_schedule(engine, solver, message, fused, source, group, after_forward)
    return RelaySolver(engine, solver, schedule)


class RelaySolver:
    """What `attach` returns: a solver's `step`, `snapshot` and `restore`, run by a schedule.

    solver: the solver (its own `step` would train every layer by every loss); net: its train net.
    """

    def __init__(self, engine: Engine, solver: Any, schedule: Schedule):
        self.engine, self.solver, self.schedule = engine, solver, schedule
        self.net = solver.net
        self.root = schedule.group.rank == 0  # the process that tests, logs and saves
        self.images_tested = self.not_finite = 0  # of the last test: images; scores not finite
        self.is_whole = True  # whether the weights are those of a whole number of iterations
        self.loss: Any = 0.0  # the present iteration's, for float()
        self.log = SolverLog(solver.param, quiet=not self.root)
        self._callbacks: list[tuple[Callable[[], None], Callable[[], None]]] = []

    @property
    def iter(self) -> int:
        """How many iterations have updated the weights."""
        return self.solver.iter

    @property
    def flows(self) -> Flows:
        """The flows: which loss trains which layers."""
        return Flows(self.schedule.flows, Graph(self.net))

    def step(self, iterations: int) -> None:
        """Run `iterations` iterations, with the tests, log lines and snapshots of the solver."""
        show_log()
        self.log.begin(self.iter)
        try:
            for _ in range(iterations):
                if self.test_due:
                    self.observe_test(self.test_all() if self.root else [])
                if self.solver.is_over:
                    return
                self.iterate()
                if self.root and self.snapshot_due:
                    self.snapshot()
        finally:
            self.solver.finish_reports()

    def iterate(self) -> None:
        """One iteration by itself: forward, backward through each flow, update."""
        self.is_whole = True
        self.schedule.group.begin(self.iter)
        for on_start, _ in self._callbacks:
            on_start()
        self.schedule.iterate(self._on_loss, self._on_gradients)
        self.is_whole = True

    def backward(self) -> None:
        """Backward through every flow, after a forward pass, for an update of your own:

            net.clear_param_diffs(); net.forward(); relay.backward(); solver.apply_update()

        PAIR_WISE and MULTI_WAY, which update after each loss, refuse it.
        """
        self.schedule.backward()

    def add_callback(
        self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]
    ) -> None:
        """Call both, without arguments: at the start of an iteration, before each update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def _on_loss(self, loss):
        self.loss = loss
        self.solver.observe_loss(loss)
        self.log.iteration(self.solver, loss)

    def _on_gradients(self):
        for _, on_gradients_ready in self._callbacks:
            on_gradients_ready()
        self.is_whole = False  # until the iteration's last update is done

    # ---- tests and snapshots -----------------------------------------------------------------

    @property
    def test_due(self) -> bool:
        """Whether the solver's settings ask for a test before the next iteration."""
        return self._due(self.solver.param.test_interval) and (
            self.iter > 0 or self.solver.param.test_initialization
        )

    @property
    def snapshot_due(self) -> bool:
        """Whether the solver's settings ask for a snapshot after the last iteration."""
        return self._due(self.solver.param.snapshot)

    def _due(self, interval):
        return interval > 0 and self.iter % interval == 0

    def test_all(self, go_on: Callable[[], bool] = lambda: True) -> list[dict[str, Any]]:
        """Run every test net; for each {output name: mean array over its test_iter batches}.

        go_on: asked before each batch; where it says False, the test ends and finds nothing. Each
        record counts once for an accuracy, see Scores; `images_tested` is then how many counted,
        `not_finite` how many of them had a score that is not finite.
        """
        found = []
        self.not_finite = self.images_tested = 0
        for index, net in enumerate(self.solver.test_nets):
            self.log.testing(self.iter, index)
            net.share_with(self.net)
            batches = self.solver.param.test_iter[index]
            scores = self._scores(net, index)
            with self.solver.averaged():
                tested = mean_outputs(
                    net,
                    batches,
                    go_on,
                    scores.observe,
                    getattr(self.solver.param, "ap_version", "Integral"),  # a field of SSD's
                    self.log.class_result,
                )
            if tested is None:
                return []
            scores.correct(tested[1])
            self.not_finite += scores.not_finite
            self.images_tested += scores.images
            found.append(tested[1])
            self.log.test_outputs(net, found[-1])
        return found

    def _scores(self, net: Any, index: int) -> Scores:
        param, states = self.engine.test_net_param(self.solver, index), self.solver.param.test_state
        stages = states[index].stage if index < len(states) else ()
        layers = {layer.name: layer for layer in param.layer}
        return Scores(net, layers, records_of_test(param, stages))

    def observe_test(self, found: list[dict[str, Any]]) -> None:
        """Tell the solver what the first process's `test_all` found; all processes must."""
        self.solver.observe_test(self.schedule.group.first(found))

    def snapshot(self) -> str:
        """Write the weights and the state, as the solver does; return the path of the state.

        Each loss with its own momentum has PREFIX_iter_N.LOSS.solverstate beside it, and
        PREFIX_iter_N.sha256, which comes last, the checksums of all parts.
        """
        state = self.solver.snapshot()
        self.schedule.save(state)
        snapshots.seal(state)
        return state

    def restore(self, path: str) -> None:
        """Continue from a .solverstate.

        Raises DataError where a part of a snapshot of `snapshot` is missing or damaged.
        """
        snapshots.check_sealed(path)
        self.solver.restore(path)
        self.schedule.restore(path)


class Flows(tuple):
    """Flows that print as a table: each loss, the layers that it trains, and how many."""

    graph: Graph

    def __new__(cls, flows: list[Flow], graph: Graph) -> Flows:
        self = super().__new__(cls, flows)
        self.graph = graph
        return self

    def __repr__(self) -> str:
        rows = [self._row(flow) for flow in self]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "{:<{}}  from {:<{}} down to {:<{}}  {} layers, {} with weights".format(
                *(part for pair in zip(row, widths) for part in pair), *row[3:]
            )
            for row in rows
        )

    def _row(self, flow):
        """(loss, its highest layer, its lowest, how many layers, how many with weights)."""
        layers = sorted(index for index in flow.layers if self.graph.types[index] != "Split")
        learning = [index for index in layers if len(self.graph.layers[index].blobs)]
        names = self.graph.names
        return flow.loss, names[layers[-1]], names[layers[0]], len(layers), len(learning)


def _relay_parameter(relay):
    """(RelayParameter or None, its name in errors) from the `relay` argument of `attach`."""
    if relay is None:
        return None, "attach"
    if isinstance(relay, (str, os.PathLike)):
        return read_relay(os.fspath(relay)), os.fspath(relay)
    if isinstance(relay, Mapping):
        flows = [{"loss": loss, "to": to} for loss, to in relay.items()]
        relay = RelayParameter(flow=flows)
    if not isinstance(relay, RelayParameter):
        raise RelayError(
            f"attach: relay is a {type(relay).__name__}; expected the path of a relay.prototxt, a "
            "RelayParameter, or the flows as {loss: lowest layer that it trains}"
        )
    return check_relay(relay, "attach"), "attach"
