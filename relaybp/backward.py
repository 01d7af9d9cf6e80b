"""Running the flows of one iteration: one backward range after another.

Three ways to the same gradients, and a test that holds them together:

- fused: the engine runs all flows in one sweep and shares their work (`net.backward_flows`);
- ranges: `net._backward(start, end)` for each range; the modified Split of `layers/` hands down
  only the tops of the running flow;
- zeroed: as ranges, for a Caffe whose Split sums every top: the diffs of the tops that the
  running flow does not pass are set to zero first.
"""

from .flows import Graph


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
            [(net.layers[index], graph.passed_tops(flow.layers, index))
             for index in sorted(flow.layers) if graph.types[index] == "Split"]
            for flow in flows]

    def __call__(self):
        for flow, splits in zip(self.flows, self.splits):
            for split, passed in splits:
                split.running = passed
            for start, end in flow.ranges:
                self.net._backward(start, end)
            for split, _ in splits:
                split.running = None


class Zeroed:
    """One `_backward` per range, after zeroing the diffs of the tops that the flow avoids."""

    def __init__(self, net, flows):
        self.net, self.flows = net, flows
        graph = Graph(net)
        self.avoided = [
            [blob for index in sorted(flow.layers) for i, blob in enumerate(graph.tops[index])
             if i not in graph.passed_tops(flow.layers, index)]
            for flow in flows]

    def __call__(self):
        for flow, avoided in zip(self.flows, self.avoided):
            for name in avoided:
                self.net.blobs[name].diff[...] = 0
            for start, end in flow.ranges:
                self.net._backward(start, end)


class Whole:
    """The ordinary backward pass: every loss trains every layer below it."""

    def __init__(self, net, flows=()):
        self.net = net

    def __call__(self):
        self.net._backward(len(self.net.layers) - 1, 0)


def choose(net, flows, fused=True):
    """The way of running `flows` that suits the engine behind `net`."""
    if flows is None:
        return Whole(net)
    if fused and hasattr(net, "backward_flows"):
        return Fused(net, flows)
    splits = [layer for layer in net.layers if layer.type == "Split"]
    if all(hasattr(split, "running") for split in splits):
        return Ranges(net, flows)
    return Zeroed(net, flows)
