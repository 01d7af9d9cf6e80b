"""Several backward flows planned as one sweep; see Net.backward_flows.

Backward is linear in the diffs, so flows travel as carriers: a carrier takes the sum of the diffs
of some flows through the layers of one of them. Flows with the same remaining layers become one
carrier. If flow a passes through all the remaining layers of flow b, b's carrier also carries a's
diffs, while a continues alone. Their common layers then get their parameter gradients from b's
carrier in one pass, and below b's lowest layer only a remains.
"""

from ..catalogue.utility import add_all
from . import running


class FlowPlan:
    """The steps of one sweep: for each node, the moves before it and the carriers through it."""

    def __init__(self, units, flows):
        layers = [
            frozenset(i for start, end in ranges for i in range(end, start + 1)) for ranges in flows
        ]
        pairs, self.cut = _nodes_for(units, layers)
        nodes = [node for unit in units for node in unit.nodes]
        carriers = _Carriers(layers, nodes)
        self.steps = []
        for index, node in reversed(pairs):
            moves = carriers.descend(index)
            passing = carriers.passing(index, node) if node.needs_backward else []
            if moves or passing:
                self.steps.append((node, moves, passing))

    def run(self, keep_diffs, on_gradients=None):
        """One sweep with the diffs that the losses' tops hold (their loss weights).

        on_gradients(blobs): called with a node's parameters when all carriers are through with it.
        """
        for unit in self.cut:
            unit.spread()
        held = {}  # (carrier, blob) -> diff on its way down
        for node, moves, passing in self.steps:
            for move in moves:
                move.run(held)
            arrived = []
            for carrier, wanted, counts in passing:
                diffs = [
                    blob.diff_tensor if weight else held.pop((carrier, blob), None)
                    for blob, weight in zip(node.tops, node.loss_weights, strict=True)
                ]
                if any(diff is not None for diff in diffs):
                    arrived.append((carrier, diffs, wanted, counts))
            for carrier, found in _backward_arrived(node, arrived):
                for blob, diff in zip(node.bottoms, found, strict=True):
                    if diff is not None:
                        held[carrier, blob] = diff
                        if keep_diffs:
                            blob.diff_tensor = diff
            if on_gradients:
                on_gradients(node.layer.blobs)


class _Carriers:
    """The flows on their way down: which are under way, and whose diffs each of them carries."""

    def __init__(self, layers, nodes):
        self.layers, self.nodes = layers, nodes
        self.carried = {flow: {flow} for flow in range(len(layers))}  # those under way

    def descend(self, index):
        """The Moves before layer `index`: carriers that end, merge, or join another."""
        left = {
            flow: frozenset(i for i in self.layers[flow] if i <= index) for flow in self.carried
        }
        moves = self._merge(left)
        order = sorted(self.carried, key=lambda flow: len(left[flow]))
        for place, flow in enumerate(order):
            for other in order[place + 1 :]:
                if self._joins(left[flow], left[other], index) and self._may_carry(flow, other):
                    moves.append(_Move(other, flow, self._blobs(left[flow])))
                    self.carried[flow] |= self.carried[other]
        return moves

    def _merge(self, left):
        """Drop flows that have ended; merge those with the same remaining layers."""
        moves, first = [], {}
        for flow in sorted(self.carried, key=lambda flow: -len(self.carried[flow])):
            into = first.setdefault(left[flow], flow)
            if not left[flow]:
                del self.carried[flow]
            elif into != flow:
                moves += self._hand_over(flow, into, left)
        return moves

    def _hand_over(self, flow, into, left):
        """Merge two carriers; whichever carries the one carries the other from here on."""
        own, theirs = self.carried.pop(flow), self.carried[into]
        if own <= theirs:
            return [_Move(flow, None)]
        self.carried[into], moves = own | theirs, []
        for other, carried in self.carried.items():
            for source, part, rest in ((flow, own, theirs), (into, theirs, own)):
                if other != into and rest <= carried and not part & carried:
                    moves.append(_Move(source, other, self._blobs(left[other])))
                    self.carried[other] = carried | part
        return [*moves, _Move(flow, into)]

    def _blobs(self, layers):
        return {blob for i in layers for blob in self.nodes[i].tops}

    def _joins(self, inner, outer, index):
        """Whether all diffs that the outer flow will bring to the inner's layers have arrived."""
        return (
            index in inner
            and inner < outer
            and not any(
                producer in inner for i in outer - inner for producer in self.nodes[i].producers
            )
        )

    def _may_carry(self, flow, other):
        """Whether no flow will be carried twice into one layer: all sets are nested or disjoint."""
        sets = [
            carried | self.carried[other] if each == flow else carried
            for each, carried in self.carried.items()
        ]
        return not self.carried[other] & self.carried[flow] and all(
            a <= b or b <= a or not a & b for a in sets for b in sets
        )

    def passing(self, index, node):
        """[(carrier, its wanted bottoms, whether it counts for the parameters)]."""
        through = [flow for flow in sorted(self.carried) if index in self.layers[flow]]
        return [
            (
                flow,
                [
                    propagate and producer in self.layers[flow]
                    for propagate, producer in zip(node.propagate_down, node.producers, strict=True)
                ],
                not any(self.carried[flow] < self.carried[other] for other in through),
            )
            for flow in through
        ]


class _Move:
    """Diffs of one carrier that move to another, or are dropped; copied if `blobs` are given.

    blobs: those that the other carrier needs.
    """

    def __init__(self, source, into, blobs=None):
        self.source, self.into, self.blobs = source, into, blobs

    def run(self, held):
        for carrier, blob in [key for key in held if key[0] == self.source]:
            if self.blobs is None or blob in self.blobs:
                diff = (held.pop if self.blobs is None else held.get)((carrier, blob))
                if self.into is not None:
                    held[self.into, blob] = add_all([held.get((self.into, blob)), diff])


def _nodes_for(units, layers):
    """[(index of the last layer, node)], and the fused Units that a flow cuts.

    A unit runs as one if every flow includes all of it or none.
    """
    found, cut = [], []
    for unit in units:
        pairs = unit.indexed()
        inside = [{index for index, _ in pairs} & flow for flow in layers]
        if unit.ran_fused and all(len(part) in (0, len(pairs)) for part in inside):
            found.append((pairs[-1][0], unit.fused))
        else:
            found.extend(pairs)
            cut.append(unit)
    return found, cut


def _backward_arrived(node, arrived):
    """Run one node for the carriers that arrived; yield (carrier, the diffs of its bottoms)."""
    if len(arrived) > 1 and node.layer.backward_several is not None:
        carriers, flows = zip(*[(carrier, flow) for carrier, *flow in arrived], strict=True)
        yield from zip(carriers, running.backward_several(node, flows), strict=True)
        return
    counting = [diffs for _, diffs, _, counts in arrived if counts]
    if len(counting) > 1 and any(node.layer.param_propagate_down):
        running.backward_params(node, _sums(counting))
    for carrier, diffs, wanted, counts in arrived:
        alone = counts and len(counting) == 1
        yield (
            carrier,
            (running.backward_both if alone else running.backward_data)(node, diffs, wanted),
        )


def _sums(all_diffs):
    """For each top, the sum of the diffs with which the carriers arrived; None if none did."""
    return [
        add_all(diffs) if any(diff is not None for diff in diffs) else None
        for diffs in zip(*all_diffs, strict=True)
    ]
