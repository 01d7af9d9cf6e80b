"""The graph of a net, from pycaffe's public names: who feeds whom, which losses, how deep."""

from __future__ import annotations

from typing import Any, Callable

# what counts as a layer in the depth of a network: layers with weights
DEEP = frozenset(
    ["Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise", "InnerProduct"]
    + ["LSTM", "RNN"]
)


class Graph:
    """Who feeds whom, by layer index."""

    def __init__(self, net):
        self.net = net
        self.names = list(net._layer_names)
        self.index = {name: index for index, name in enumerate(self.names)}
        self.layers = list(net.layers)
        self.types = [layer.type for layer in self.layers]
        tops, bottoms = net.top_names, net.bottom_names
        self.tops = [list(tops[name]) for name in self.names]
        self.bottoms = [list(bottoms[name]) for name in self.names]
        self.feeders, self.consumers = [], {}
        writer = {}
        for index in range(len(self.names)):
            self.feeders.append([writer[blob] for blob in self.bottoms[index]])
            for blob in self.bottoms[index]:
                self.consumers.setdefault((writer[blob], blob), []).append(index)
            writer.update((blob, index) for blob in self.tops[index])
        self.weights = dict(net.blob_loss_weights)
        self.losses = [
            index
            for index in range(len(self.names))
            if self.types[index] != "Split" and self.loss_blobs(index)
        ]
        self.levels = self._levels()

    def loss_blobs(self, index):
        """The tops of a layer that have a loss weight; where a Split copies one, the copies."""
        found = []
        for blob in self.tops[index]:
            handed_on = [
                top
                for consumer in self.consumers.get((index, blob), ())
                if self.types[consumer] == "Split"
                for top in self.tops[consumer]
            ]
            found.extend(name for name in [blob, *handed_on] if self.weights.get(name))
        return found

    def _levels(self):
        """For each layer, how many layers with weights are on the longest path from the data."""
        levels = []
        for index, kind in enumerate(self.types):
            below = max((levels[feeder] for feeder in self.feeders[index]), default=0)
            levels.append(below + (kind in DEEP))
        return levels

    def ancestors(self, index):
        """The layers that lead to layer `index`, itself included."""
        found, waiting = set(), [index]
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting.extend(self.feeders[here])
        return found

    def behind_splits(self, index):
        """The layer whose top a Split, or a chain of them, copies; another layer is itself."""
        while self.types[index] == "Split":
            index = self.feeders[index][0]
        return index

    def head(self, loss):
        """The layers that lead to one loss and to no other, without its Splits."""
        others = (self.ancestors(other) for other in self.losses if other != loss)
        return self.ancestors(loss).difference(*others)

    def branch_depth(self, loss):
        """The level of the trunk where the branch of a loss begins."""
        trunk = self.ancestors(loss) - self.head(loss)
        return max((self.levels[index] for index in trunk), default=self.levels[loss])

    @property
    def final(self):
        """The loss whose branch begins last: the primary one."""
        return max(self.losses, key=lambda loss: (self.branch_depth(loss), loss))

    def depth(self, loss):
        """The depth of an output: where its branch begins, or the full depth for the final one."""
        return self.levels[loss] if loss == self.final else self.branch_depth(loss)

    def scores(self, loss):
        """The nearest layer with parameters below a loss."""
        return max(index for index in self.ancestors(loss) if len(self.layers[index].blobs))

    def named(self, name):
        """The indices that a name stands for: the layer of that name, or the block that it begins.

        "res4a" is res4a_branch1, res4a_branch2a, ..., and the layer res4a itself.
        """
        return [
            index
            for index, layer in enumerate(self.names)
            if layer == name or layer.startswith(name) and layer[len(name)] in "_/-."
        ]

    def passed_tops(self, layers, index):
        """The positions of layer `index`'s tops that lead on within `layers`, or are losses."""
        return frozenset(
            i
            for i, blob in enumerate(self.tops[index])
            if self.weights.get(blob)
            or any(consumer in layers for consumer in self.consumers.get((index, blob), ()))
        )

    def parameters(self, address: Callable[[Any], int]) -> list[tuple[Any, list[int]]]:
        """[(blob, the layers that use it)] of every parameter blob, shared ones once.

        address: where a blob's values lie (an engine's).
        """
        found: dict[int, tuple[Any, list[int]]] = {}
        for index, layer in enumerate(self.layers):
            for blob in layer.blobs:
                found.setdefault(address(blob), (blob, []))[1].append(index)
        return list(found.values())
