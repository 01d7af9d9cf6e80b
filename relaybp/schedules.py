"""The schedules: what one iteration of each does with the flows.

STANDARD, JOINT and RELAY take one step an iteration, with the gradients of all losses summed.
PAIR_WISE and MULTI_WAY take one step for each loss, shallow to deep.
"""

from . import backward, weights
from .distributed import Alone
from .engine import forward
from .errors import RelayError
from .flows import frozen_layers, plan
from .graph import Graph
from .relay_file import RelayParameter, schedule_name
from .steps import beside, existing, freeze, make_steps


class OneStep:
    """Forward and backward passes over iter_size batches, then one update."""

    steps_apart = False  # whether each loss has a step of its own

    def __init__(self, solver, relay, flows, fused):
        self.solver, self.net, self.flows = solver, solver.net, flows
        self.passes = solver.param.iter_size
        self.backward = backward.choose(self.net, self.flows_to_run, fused)
        self.factors = weights.joint_factors(Graph(self.net), flows, relay)
        weights.set_loss_weights(self.net, flows)
        self.group = Alone()  # the processes that train together
        self.after_forward = None  # called after the first forward pass of an iteration

    @property
    def flows_to_run(self):
        """The flows that backward runs; None: every loss to the bottom."""
        return self.flows

    def iterate(self, on_loss):
        """One iteration; `on_loss(loss)` is called before the weights change."""
        self.net.clear_param_diffs()
        loss = 0.0
        for number in range(self.passes):
            loss = loss + forward(self.net)
            if self.after_forward and not number:
                self.after_forward()
            self.backward()
        self.group.average_gradients(self.net)
        for blob, factor in self.factors:
            weights.scale_diff(blob, factor)
        on_loss(float(loss) / self.passes)
        self.solver.apply_update()

    def save(self, state):
        """Write, beside the solver's state, what only this schedule remembers."""

    def restore(self, state):
        """Read what `save` wrote."""

    def describe(self):
        """The schedule in words."""
        return "; ".join(f"{flow.loss} trains down to {flow.to}" for flow in self.flows)


class Joint(OneStep):
    """Every loss trains every layer below it: one backward pass of their weighted sum."""

    flows_to_run = None

    def describe(self):
        return "every loss trains every layer below it"


class Standard(Joint):
    """The only loss trains every layer."""

    def __init__(self, solver, relay, flows, fused):
        if len(flows) > 1:
            names = ", ".join(repr(flow.loss) for flow in flows)
            raise RelayError(
                f"schedule STANDARD trains one loss, and the net has {names}; leave "
                "the auxiliary layers out: in the net, include { not_stage: "
                '"standard" }, in the solver, train_state { stage: "standard" }'
            )
        super().__init__(solver, relay, flows, fused)


class Relay(OneStep):
    """Each loss trains its own range of layers; where ranges meet, the gradients add up."""


class StepPerLoss:
    """For each loss, shallow to deep: a backward pass and an update of the layers of its flow."""

    steps_apart = True

    def __init__(self, solver, relay, flows, fused):
        self.solver, self.net = solver, solver.net
        self.name = schedule_name(relay)
        if solver.param.iter_size > 1:
            raise RelayError(
                f"schedule {self.name} updates after each loss, while the features of "
                f"its one batch last: iter_size {solver.param.iter_size} cannot be; "
                "set iter_size: 1 and a larger batch"
            )
        self.flows = sorted(flows, key=lambda flow: (flow.depth, max(flow.layers)))
        graph = Graph(self.net)
        self.backwards = [backward.choose(self.net, [flow], fused) for flow in self.flows]
        self.check(graph)
        self.own_factors = [weights.own_factors(graph, flow, relay) for flow in self.flows]
        self.step_factors = weights.step_factors(self.flows, relay)
        self.guard = relay.step.loss_ratio_guard
        self.steps = make_steps(
            solver, self.flows, relay.step.own_momentum, relay.step.normalize or self.guard > 0
        )
        weights.set_loss_weights(self.net, self.flows)
        self.group, self.after_forward = Alone(), None  # as in OneStep

    def check(self, graph):
        """Refuse a net that this engine cannot train so."""

    def forward_again(self):
        """Before the step of the second and every later loss."""

    def iterate(self, on_loss):
        """One iteration; `on_loss(loss)` is called before the weights change."""
        on_loss(float(forward(self.net)))
        if self.after_forward:
            self.after_forward()
        iteration = self.solver.iter
        for number, run in enumerate(self.backwards):
            if number:
                self.forward_again()
            self.net.clear_param_diffs()
            run()
            self.group.average_gradients(self.net)
            for blob, factor in self.own_factors[number]:
                weights.scale_diff(blob, factor)
            self.steps[number](iteration, self._factor(number))

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
        """Write the momentum of every loss but the final one, which the solver has written."""
        for step in self._remembering:
            step.save(beside(state, step.loss))

    def restore(self, state):
        """Read what `save` wrote."""
        for step in self._remembering:
            step.restore(existing(beside(state, step.loss)))

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
        self.ranges = backward.ranges(set(range(len(graph.names))).difference(sources))
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

    A backward pass reads the weights as the updates before it have left them.
    """

    def check(self, graph):
        if any(isinstance(run, backward.Passes) for run in self.backwards):
            backward.refuse_in_place_scale(graph, self.flows, "schedule MULTI_WAY")


SCHEDULES = {
    "STANDARD": Standard,
    "JOINT": Joint,
    "RELAY": Relay,
    "PAIR_WISE": PairWise,
    "MULTI_WAY": MultiWay,
}


def make_schedule(solver, net_param, relay=None, fused=True, source="relay.prototxt"):
    """The schedule of a RelayParameter for a solver; without one, JOINT.

    net_param: the NetParameter of its train net; fused: let the engine run all flows in a sweep.
    """
    if relay is None:
        relay = RelayParameter(schedule=list(SCHEDULES).index("JOINT"))
    frozen = frozen_layers(net_param)
    flows = plan(solver.net, relay, frozen, source)
    freeze(solver.net, relay, frozen, source)
    return SCHEDULES[schedule_name(relay)](solver, relay, flows, fused)
