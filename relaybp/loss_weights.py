"""The weight of each loss, and the final factor on each layer's gradient."""

from .errors import RelayError
from .relay_file import REFERENCES


def weigh(graph, flows, relay):
    """The flows with the weights and depths of a RelayParameter.

    A flow's own `weight` counts first, then the weight law, then the loss_weight in the net.
    """
    given = {flow.loss: flow for flow in relay.flow}
    flows = [
        flow._replace(depth=given[flow.loss].depth)
        if flow.loss in given and given[flow.loss].HasField("depth")
        else flow
        for flow in flows
    ]
    law, final = relay.weight_law, graph.names[graph.final] if graph.losses else None
    reference = max(
        (
            flow.depth
            for flow in flows
            if flow.weight and (flow.loss == final) == (REFERENCES[law.reference] == "FINAL")
        ),
        default=1,
    )
    weighed = []
    for flow in flows:
        weight = flow.weight
        if weight and law.HasField("gamma"):
            weight = (
                1.0
                if flow.loss == final
                else (max((flow.depth / reference) ** law.gamma, law.floor))
            )
        if flow.loss in given and given[flow.loss].HasField("weight"):
            weight = given[flow.loss].weight if flow.blobs else 0
        weighed.append(flow._replace(weight=weight if weight >= law.drop_below else 0))
    return weighed


def set_loss_weights(net, flows):
    """Set a net's loss weights to those of its flows; Caffe keeps a loss's weight in its diff."""
    for flow in flows:
        for name in flow.blobs:
            net.blobs[name].diff[...] = flow.weight


def joint_factors(graph, parameters, flows, relay):
    """[(parameter blob, factor)] where one step for all flows scales the summed gradient.

    parameters: [(blob, the layers that use it)], as Graph.parameters gives them.
    """
    spared = _spared(graph, flows, relay)
    factors = []
    for blob, layers in parameters:
        here = [flow for flow in flows if flow.layers.intersection(layers)]
        own = [spared[index] for index in layers if index in spared]
        if own and len(here) > 1:
            raise RelayError(
                f"spare_scores: layer {graph.names[layers[0]]!r} makes scores of "
                f"{own[0].loss!r}, and is also trained by another loss; use PAIR_WISE or MULTI_WAY"
            )
        if own:
            factors.append((blob, 1 / own[0].weight))
        elif here and relay.step.normalize:
            factors.append((blob, 1 / sum(flow.weight for flow in here)))
    return [(blob, factor) for blob, factor in factors if factor != 1]


def own_factors(graph, flow, relay):
    """[(parameter blob, factor)] where a step for one flow alone scales its gradient."""
    spared = _spared(graph, [flow], relay)
    return [(blob, 1 / flow.weight) for index in spared for blob in graph.layers[index].blobs]


def step_factors(flows, relay):
    """What each flow's step is multiplied by: 1 over the sum of its weight and the deeper ones'."""
    if not relay.step.normalize:
        return [1.0] * len(flows)
    return [
        1 / sum(deeper.weight for deeper in flows if deeper.depth >= flow.depth) for flow in flows
    ]


def _spared(graph, flows, relay):
    """{layer that makes a loss's scores: its flow}, where the weight law spares them."""
    if not relay.weight_law.spare_scores:
        return {}
    return {graph.scores(graph.index[flow.loss]): flow for flow in flows if flow.weight != 1}
