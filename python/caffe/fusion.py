"""Fusion: BatchNorm, Scale and ReLU as one layer, where nobody can see the difference.

Legal exactly where the three share one in-place blob: the values between them exist nowhere but
inside the group. A range of layers that cuts a group runs its layers one by one.
"""

import torch

from .build import Node
from .layer import TensorLayer


class Unit:
    """Consecutive nodes that run as one, or one node."""

    def __init__(self, index, nodes):
        self.index, self.nodes = index, nodes
        self.fused = None if len(nodes) == 1 else _fused_node(nodes)
        self.ran_fused = False  # whether forward ran the group as one

    def indexed(self):
        """(index, node) of the nodes."""
        return [(self.index + i, node) for i, node in enumerate(self.nodes)]

    def spread(self):
        """After a fused forward: give each layer what it would have kept for its backward."""
        if self.ran_fused:
            self.fused.layer.spread(self.nodes, self.fused.inputs)
            self.ran_fused = False


def units(nodes):
    """The nodes as Units, in order, every legal group fused."""
    found, index = [], 0
    while index < len(nodes):
        length = _group_length(nodes, index)
        found.append(Unit(index, nodes[index:index + length]))
        index += length
    return found


def _group_length(nodes, index):
    """How many nodes from `index` on make a group: BatchNorm, Scale and perhaps ReLU."""
    normalization, *rest = nodes[index:index + 3]
    if normalization.layer.type != "BatchNorm" or not normalization.in_place or not rest:
        return 1
    if not (_follows(normalization, rest[0], "Scale") and _is_per_channel(rest[0])):
        return 1
    if len(rest) > 1 and _follows(rest[0], rest[1], "ReLU") and (
            rest[1].layer.options.negative_slope == 0):
        return 3
    return 2


def _follows(above, node, kind):
    """Whether `node` is a layer of type `kind` in place on the blob of the node before it."""
    return (node.layer.type == kind and node.in_place and node.bottoms == above.tops
            and not any(above.loss_weights) and not any(node.loss_weights)
            and not node.param.propagate_down)


def _is_per_channel(node):
    blobs, shape = node.layer.blobs, node.bottoms[0].shape
    return (len(shape) > 1 and node.layer.axis == 1 and bool(blobs)
            and all(blob.shape == (shape[1],) for blob in blobs))


def _fused_node(nodes):
    first, last = nodes[0], nodes[-1]
    node = Node(first.param, FusedNormalization(nodes), first.bottom_names, last.top_names,
                first.bottoms, last.tops, first.producers, first.propagate_down,
                last.loss_weights)
    node.needs_backward = any(each.needs_backward for each in nodes)
    return node


class FusedNormalization(TensorLayer):
    """y = max(scale (x - mean) / sqrt(var + eps) + bias, 0), the max only with a ReLU.

    bottom, top: (N, C, ...), one in-place blob. Its parameters are those of the layers it is
    made of.
    """

    def __init__(self, nodes):
        self.normalization, self.scale = nodes[0].layer, nodes[1].layer
        self.rectifies = len(nodes) == 3
        self.reads_top = self.rectifies
        self.name = self.normalization.name
        self.blobs = self.scale.blobs
        self.options = None

    @property
    def param_propagate_down(self):
        return self.scale.param_propagate_down

    def reshape(self, *shapes):
        return self.scale.reshape(*self.normalization.reshape(*shapes))

    def _params(self):
        return self.blobs[0].tensor, self.blobs[1].tensor if len(self.blobs) > 1 else None

    def forward(self, x):
        y = self.normalization.normalize(x, *self._params())
        return y.relu_() if self.rectifies else y

    def backward(self, diffs, bottoms, tops, wanted):
        return [self._gradients(diffs, bottoms, tops, (True, False, False))[0]]

    def backward_params(self, diffs, bottoms, tops):
        self._accumulate(self._gradients(diffs, bottoms, tops, (False, *self._wanted_params())))

    def backward_both(self, diffs, bottoms, tops, wanted):
        found = self._gradients(diffs, bottoms, tops, (wanted[0], *self._wanted_params()))
        self._accumulate(found)
        return [found[0]]

    def _wanted_params(self):
        wanted = self.param_propagate_down
        return wanted[0], len(wanted) > 1 and wanted[1]

    def _gradients(self, diffs, bottoms, tops, mask):
        dy = self.rectified(diffs[0], tops[0])
        return self.normalization.gradients(dy, bottoms[0], self.blobs[0].tensor, mask)

    def rectified(self, dy, y):
        """The diff below the ReLU."""
        return torch.ops.aten.threshold_backward(dy, y, 0) if self.rectifies else dy

    def _accumulate(self, found):
        for blob, gradient, wanted in zip(self.blobs, found[1:], self._wanted_params(),
                                          strict=False):
            if wanted:
                blob.accumulate_diff(gradient)

    def spread(self, nodes, inputs):
        """Restore the inputs that BatchNorm and Scale keep when they run one by one."""
        (x,), normalization = inputs, self.normalization
        shape = (1, -1) + (1,) * (x.dim() - 2)
        nodes[0].inputs = (x,)
        nodes[1].inputs = ((x - normalization.mean.view(shape).to(x.dtype))
                           * normalization.inverse_std.view(shape).to(x.dtype),)
