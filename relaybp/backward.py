"""Running the flows of one iteration: one backward range after another.

There are three ways to the same gradients. The engine (`engines/`) chooses one; a test checks that
they agree:

- fused: the engine runs all flows in one sweep and shares their work (`net.backward_flows`);
- ranges: `net._backward(start, end)` for each range; the modified Split of `layers/` hands down
  only the tops of the running flow;
- passes: for a Caffe whose Split sums every top: nested passes, after zeroing the diffs of the
  tops that lead out of the running flows.
"""

from .flows import ranges
from .graph import Graph


class Fused:
    """All flows in one sweep."""

    def __init__(self, net, flows):
        self.net = net
        self.ranges = [flow.ranges for flow in flows]

    def __call__(self):
        self.net.backward_flows(self.ranges)


class Ranges:
    """One `_backward` per range; each Split is told which of its tops the flow passes."""

    def __init__(self, net, flows):
        self.net, self.flows = net, flows
        graph = Graph(net)
        self.splits = [
            [
                (net.layers[index], graph.passed_tops(flow.layers, index))
                for index in sorted(flow.layers)
                if graph.types[index] == "Split"
            ]
            for flow in flows
        ]

    def __call__(self):
        for flow, splits in zip(self.flows, self.splits):
            for split, passed in splits:
                split.running = passed
            for start, end in flow.ranges:
                self.net._backward(start, end)
            for split, _ in splits:
                split.running = None


class Passes:
    """One backward pass for each lowest layer, for a Caffe whose Split sums every top.

    Pass k runs the flows that reach layer `to` k or lower, together, down to that layer; the
    diffs of tops that lead out of them are set to zero first. Layers that an earlier pass reached
    have their data diffs computed again and keep their parameter diffs.

    NOTE: one pass per flow would be wrong there: BVLC's in-place Scale overwrites the input that
    it saved in its first backward, so only the first parameter diff of an iteration is right.
    """

    def __init__(self, net, flows):
        self.net = net
        graph = Graph(net)
        self.passes = []
        reached = len(graph.names)
        for lowest in sorted({min(flow.layers) for flow in flows}, reverse=True):
            layers = frozenset().union(
                *(
                    (i for i in flow.layers if i >= lowest)
                    for flow in flows
                    if min(flow.layers) <= lowest
                )
            )
            avoided = [
                blob
                for index in sorted(layers)
                for i, blob in enumerate(graph.tops[index])
                if i not in graph.passed_tops(layers, index)
            ]
            done = {i for i in layers if i >= reached and len(net.layers[i].blobs)}
            self.passes.append((avoided, _pieces(layers, done)))
            reached = lowest

    def __call__(self):
        for avoided, pieces in self.passes:
            for name in avoided:
                self.net.blobs[name].diff[...] = 0
            for start, end, done in pieces:
                blobs = self.net.layers[start].blobs if done else ()
                kept = [blob.diff.copy() for blob in blobs]  # one layer's at a time
                self.net._backward(start, end)
                for blob, diff in zip(blobs, kept):
                    blob.diff[...] = diff


def _pieces(layers, done):
    """(start, end, done) of ranges of layers, topmost first; each done layer is its own range."""
    pieces = [(index, index, True) for index in done]
    pieces += [(start, end, False) for start, end in ranges(layers - done)]
    return sorted(pieces, reverse=True)


class Whole:
    """The ordinary backward pass: every loss trains every layer below it."""

    def __init__(self, net, flows=()):
        self.net = net

    def __call__(self):
        self.net._backward(len(self.net.layers) - 1, 0)
