"""The schedules: what one iteration of each does with the flows.

STANDARD, JOINT and RELAY take one step an iteration, with the gradients of all losses summed.
PAIR_WISE and MULTI_WAY take one step for each loss, shallow to deep.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, Callable

from caffe_plain.names import quoted

from . import loss_weights
from .distributed import Alone
from .engines import Engine
from .errors import RelayError
from .flows import Flow, frozen, plan, ranges
from .graph import Graph
from .relay_file import RelayParameter, schedule_name

Watch = Callable[["Schedule"], Callable[[], None]]


class Schedule(ABC):
    """What one iteration does: `iterate` runs it on a solver of `engine`.

    flows: those of the losses that train; fused: whether they run backward in one sweep; group:
    the processes that train together; after_forward: makes, from the schedule, what is called
    after the first forward pass of each iteration.
    """

    steps_apart = False  # whether each loss has a step of its own

    def __init__(
        self,
        engine: Engine,
        solver: Any,
        relay: Any,
        flows: list[Flow],
        fused: bool = True,
        group: Alone | None = None,
        after_forward: Watch | None = None,
    ):
        self.engine, self.solver, self.net = engine, solver, solver.net
        self.flows, self.group = flows, group or Alone()
        self.prepare(relay, Graph(self.net), fused)
        loss_weights.set_loss_weights(self.net, flows)
        self.after_forward = after_forward(self) if after_forward else _nothing

    @abstractmethod
    def prepare(self, relay: Any, graph: Graph, fused: bool) -> None:
        """Check that the net can be trained this way, and make what each iteration needs."""

    @abstractmethod
    def iterate(
        self, on_loss: Callable[[Any], None], on_gradients: Callable[[], None] | None = None
    ) -> None:
        """One iteration; `on_loss(loss)`, a loss for float(), is called before the weights change.

        on_gradients: called before each update, when its gradients are ready.
        """

    @abstractmethod
    def backward(self) -> None:
        """Run the flows after a forward pass; the params' diffs then hold what an update uses."""

    @abstractmethod
    def save(self, state: str) -> None:
        """Write, beside the solver's state, what only this schedule remembers."""

    @abstractmethod
    def restore(self, state: str) -> None:
        """Read what `save` wrote."""

    def describe(self) -> str:
        """The schedule in words."""
        return "; ".join(f"{flow.loss} trains down to {flow.to}" for flow in self.flows)


class OneStep(Schedule):
    """Forward and backward passes over iter_size batches, then one update."""

    def prepare(self, relay, graph, fused):
        self.passes = self.solver.param.iter_size
        self.run_flows = self.engine.backward(self.net, self.flows_to_run, fused)
        parameters = graph.parameters(self.engine.address)
        self.factors = loss_weights.joint_factors(graph, parameters, self.flows, relay)

    @property
    def flows_to_run(self) -> list[Flow] | None:
        """The flows that backward runs; None: every loss to the bottom."""
        return self.flows

    def iterate(self, on_loss, on_gradients=None):
        on_loss(self._gradients())
        (on_gradients or _nothing)()
        self.solver.apply_update()

    def backward(self):
        self.group.backward(self.run_flows)
        self._finish()

    def _gradients(self):
        """Compute an iteration's gradients into the parameters' diffs; return its mean loss."""
        self.net.clear_param_diffs()
        loss = 0.0
        for number in range(self.passes):
            loss = loss + self.engine.forward(self.net)
            if not number:
                self.after_forward()
            self.group.backward(self.run_flows)
        self._finish()
        return self.engine.number(loss, self.passes)

    def _finish(self):
        """Turn the summed gradients into what the update uses."""
        self.group.average_gradients()
        for blob, factor in self.factors:
            self.engine.scale_diff(blob, factor)

    def save(self, state):
        """Nothing to do: the solver's state is enough."""

    def restore(self, state):
        """Nothing to do: nothing was saved."""


class Joint(OneStep):
    """Every loss trains every layer below it: one backward pass of their weighted sum."""

    flows_to_run = None

    def describe(self):
        if len(self.flows) == 1:
            return f"standard BP: {self.flows[0].loss} trains every layer"
        return "every loss trains every layer below it"


class Standard(Joint):
    """The only loss trains every layer."""

    def prepare(self, relay, graph, fused):
        if len(self.flows) > 1:
            names = ", ".join(repr(flow.loss) for flow in self.flows)
            raise RelayError(
                f"schedule STANDARD trains one loss, and the net has {names}; leave "
                "the auxiliary layers out: in the net, include { not_stage: "
                '"standard" }, in the solver, train_state { stage: "standard" }'
            )
        super().prepare(relay, graph, fused)


class Relay(OneStep):
    """Each loss trains its own range of layers; where ranges meet, the gradients add up."""


class StepPerLoss(Schedule):
    """For each loss, shallow to deep: a backward pass and an update of the layers of its flow."""

    steps_apart = True

    def prepare(self, relay, graph, fused):
        self.name, param = schedule_name(relay), self.solver.param
        if param.iter_size > 1:
            raise RelayError(
                f"schedule {self.name} updates after each loss, while the features of "
                f"its one batch last: iter_size {param.iter_size} cannot be; "
                "set iter_size: 1 and a larger batch"
            )
        self.flows = sorted(self.flows, key=lambda flow: (flow.depth, max(flow.layers)))
        self.backwards = [self.engine.backward(self.net, [flow], fused) for flow in self.flows]
        self.check(graph)
        self.own_factors = [loss_weights.own_factors(graph, flow, relay) for flow in self.flows]
        self.step_factors = loss_weights.step_factors(self.flows, relay)
        self.guard = relay.step.loss_ratio_guard
        scaled = relay.step.normalize or self.guard > 0
        self.steps = self.engine.make_steps(
            self.solver, self.flows, relay.step.own_momentum, scaled
        )

    def check(self, graph: Graph) -> None:
        """Refuse a net that this engine cannot train this way."""

    def forward_again(self) -> None:
        """Called before the step of the second and every later loss."""

    def iterate(self, on_loss, on_gradients=None):
        on_loss(self.engine.number(self.engine.forward(self.net)))
        self.after_forward()
        for number, run in enumerate(self.backwards):
            if number:
                self.forward_again()
            self.net.clear_param_diffs()
            self.group.backward(run)
            self.group.average_gradients()
            for blob, factor in self.own_factors[number]:
                self.engine.scale_diff(blob, factor)
            (on_gradients or _nothing)()
            self.steps[number](self._factor(number))
        self.engine.count_iteration(self.solver)

    def backward(self):
        raise RelayError(
            f"schedule {self.name} updates after the backward pass of each loss, so that there is "
            "no one backward pass of an iteration; use step(1)"
        )

    def _factor(self, number):
        """What the step of a loss is multiplied by."""
        factor = self.step_factors[number]
        if self.guard:
            loss, final = self.group.average(
                [self._loss(flow) for flow in (self.flows[number], self.flows[-1])]
            )
            if loss > self.guard * final:
                factor *= final / loss
        return factor

    def _loss(self, flow):
        return sum(float(self.net.blobs[name].data) for name in flow.blobs)

    def save(self, state):
        """Write the momentum of every loss except the final one, which the solver has written."""
        for step in self._remembering:
            step.save(_beside(state, step.loss))

    def restore(self, state):
        for step in self._remembering:
            path = _beside(state, step.loss)
            if not os.path.exists(path):
                raise RelayError(
                    f"{path}: no such file; it holds the momentum of one loss and lies beside "
                    "the snapshot of a run with the same schedule"
                )
            step.restore(path)

    @property
    def _remembering(self):
        return [step for step in self.steps[:-1] if step.own_momentum]

    def describe(self):
        return "one step for each loss: " + "; ".join(
            f"{flow.loss} (weight {flow.weight:.3g}) down to {flow.to}" for flow in self.flows
        )


class PairWise(StepPerLoss):
    """Each loss in turn: a forward pass over the batch, its backward pass, its update."""

    def check(self, graph):
        sources = [
            index
            for index, bottoms in enumerate(graph.bottoms)
            if not bottoms and not len(graph.layers[index].blobs)
        ]
        batch = {blob for index in sources for blob in graph.tops[index]}
        self.ranges = ranges(set(range(len(graph.names))).difference(sources))
        for index, tops in enumerate(graph.tops):
            if index not in sources and batch.intersection(tops):
                raise RelayError(
                    f"schedule {self.name}: layer {graph.names[index]!r} changes the "
                    f"batch {tops[0]!r} in place, so that a second forward pass would "
                    "change it twice; give its top another name"
                )

    def forward_again(self):
        for end, start in reversed(self.ranges):
            self.net._forward(start, end)


class MultiWay(StepPerLoss):
    """One forward pass; then, with its features, a backward pass and an update for each loss.

    Each backward pass reads the weights that the earlier updates left.
    """

    def check(self, graph):
        self.engine.check_repeated(graph, self.flows, "schedule MULTI_WAY")


SCHEDULES: dict[str, type[Schedule]] = {
    "STANDARD": Standard,
    "JOINT": Joint,
    "RELAY": Relay,
    "PAIR_WISE": PairWise,
    "MULTI_WAY": MultiWay,
}


def make_schedule(
    engine: Engine,
    solver: Any,
    relay: Any = None,
    fused: bool = True,
    source: str = "relay.prototxt",
    group: Alone | None = None,
    after_forward: Watch | None = None,
) -> Schedule:
    """The schedule of a RelayParameter for a solver of `engine`; without one, JOINT.

    source: names the relay file in errors; for the rest see Schedule.
    """
    if relay is None:
        relay = RelayParameter(schedule=list(SCHEDULES).index("JOINT"))
    net_param = engine.net_param(solver)
    flows = plan(solver.net, relay, net_param, source)
    engine.freeze(solver, frozen(Graph(solver.net), net_param, relay, source), source)
    kind = SCHEDULES[schedule_name(relay)]
    return kind(engine, solver, relay, flows, fused, group, after_forward)


def _beside(state: str, loss: str) -> str:
    """Where the momentum of a loss is stored: PREFIX_iter_N.LOSS.solverstate."""
    stem, dot, ending = state.rpartition(".solverstate")
    return f"{stem}.{quoted(loss)}{dot}{ending}"


def _nothing():
    """The default callback."""
