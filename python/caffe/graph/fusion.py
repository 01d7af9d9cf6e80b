"""Fusion: BatchNorm, Scale, Eltwise, ReLU, Split as one layer, where the difference cannot be seen.

This is legal if they share one in-place blob: the values between them exist only inside the group.
The sum of an Eltwise is in another blob than its terms, and only the group reads the sum of a
Split's diffs. So these two join a group only if blobs need not be kept; reading values that were
not kept is an error. A range of layers that cuts a group runs its layers one by one.
"""

from ..layer import TensorLayer
from .build import Node
from .fused import FusedNormalization


class Unit:
    """Consecutive nodes that run as one, or one node."""

    def __init__(self, index, nodes):
        self.index, self.nodes = index, nodes
        self.fused = None if len(nodes) == 1 else _fused_node(nodes)
        self.ran_fused = False  # whether forward ran the group as one

    def can_replay(self) -> bool:
        """Whether a CUDA graph can record what the layers do now."""
        return all(node.layer.can_replay() for node in self.nodes)

    @property
    def asks_each_time(self) -> bool:
        """Whether a layer's answer to `can_replay` depends on more than its class."""
        return any(type(node.layer).can_replay is not TensorLayer.can_replay for node in self.nodes)

    def parts(self):
        """The objects whose attributes hold what forward leaves for backward."""
        nodes = self.all_nodes
        return [*nodes, *(part for node in nodes for part in node.layer.parts())]

    @property
    def all_nodes(self):
        """The nodes, and the one that they run as."""
        return [*self.nodes, self.fused] if self.fused else self.nodes

    def indexed(self):
        """(index, node) of the nodes."""
        return [(self.index + i, node) for i, node in enumerate(self.nodes)]

    def is_whole(self, pairs):
        """Whether these pairs of `indexed` are all of them."""
        return len(pairs) == len(self.nodes)

    def finish(self):
        """After a fused forward: mark the terms of the sum as not computed; store the results."""
        if self.fused.layer.adds:
            self.nodes[1].tops[0].hidden = True
        if self.fused.layer.splits:
            self.nodes[-1].bottoms[0].tensor = self.fused.tops[0].tensor

    def spread(self):
        """After a fused forward: give each layer what it would have kept for its backward."""
        if self.ran_fused:
            inputs = self.fused.inputs or [self.fused.bottoms[0].tensor]
            self.fused.layer.spread(self.nodes, inputs[0])
            self.ran_fused = False


def units(nodes, keep_blobs=True):
    """The nodes as Units, in order, every legal group fused.

    keep_blobs: True, or the names of the blobs that must keep their values.
    """
    found, index = [], 0
    while index < len(nodes):
        length = _group_length(nodes, index, keep_blobs)
        found.append(Unit(index, nodes[index : index + length]))
        index += length
    return found


def _group_length(nodes, index, keep_blobs):
    """How many nodes from `index` on form a group."""
    normalization, scale = nodes[index], nodes[index + 1] if index + 1 < len(nodes) else None
    if normalization.layer.type != "BatchNorm" or any(normalization.loss_weights):
        return 1
    if normalization.layer.options.scale_bias:  # NVCaffe's holds a scale itself
        return 1
    if not (_runs_on(normalization, scale, "Scale") and _is_per_channel(scale)):
        return 1
    end = index + 2
    for joins in (_rectifies,) if keep_blobs is True else (_adds, _rectifies, _splits):
        if joins is _adds and nodes[end - 1].top_names[0] in keep_blobs:
            continue
        if end < len(nodes) and joins(nodes[end - 1], nodes[end]):
            end += 1
    return end - index


def _runs_on(above, node, kind):
    """Whether `node` is a layer of type `kind` in place on the blob of the node before it."""
    return (
        node is not None
        and node.layer.type == kind
        and node.in_place
        and node.bottoms == above.tops
        and _is_plain(node)
    )


def _rectifies(above, node):
    return _runs_on(above, node, "ReLU") and node.layer.options.negative_slope == 0


def _adds(above, node):
    """Whether `node` is the sum of the blob of the node before it and another blob."""
    return (
        node.layer.type == "Eltwise"
        and node.layer.adds
        and node.layer.coeff == [1, 1]
        and not node.in_place
        and node.bottoms.count(above.tops[0]) == 1
        and _is_plain(node)
    )


def _splits(above, node):
    return node.layer.type == "Split" and node.bottoms == above.tops and _is_plain(node)


def _is_plain(node):
    return not any(node.loss_weights) and not node.param.propagate_down


def _is_per_channel(node):
    blobs, shape = node.layer.blobs, node.bottoms[0].shape
    return (
        len(shape) > 1
        and node.layer.axis == 1
        and bool(blobs)
        and all(blob.shape == (shape[1],) for blob in blobs)
    )


def _fused_node(nodes):
    first, last = nodes[0], nodes[-1]
    ways = list(
        zip(first.bottom_names, first.bottoms, first.producers, first.propagate_down, strict=True)
    )
    for node in nodes[2:]:
        if node.layer.type == "Eltwise":
            ways += [
                way
                for way in zip(
                    node.bottom_names,
                    node.bottoms,
                    node.producers,
                    node.propagate_down,
                    strict=True,
                )
                if way[1] is not nodes[1].tops[0]
            ]
    names, bottoms, producers, propagate_down = map(list, zip(*ways, strict=True))
    node = Node(
        first.param,
        FusedNormalization(nodes),
        names,
        last.top_names,
        bottoms,
        last.tops,
        producers,
        propagate_down,
        last.loss_weights,
    )
    node.needs_backward = any(each.needs_backward for each in nodes)
    node.in_place = (last.bottoms if node.layer.splits else last.tops)[0] in bottoms
    return node
