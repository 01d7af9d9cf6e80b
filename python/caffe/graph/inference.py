"""Inference: the nodes that a pass runs if nobody looks inside and no backward follows.

A convolution or an inner product takes in what follows it, as far as only its own group reads the
values between: BatchNorm, Scale and Bias by channel, a sum with another blob, an activation. A
convolution by channel and the one of 1 x 1 that follows run as one, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .build import Node
from .folded import FOLDED, FoldedSeparable


class Step:
    """One node to run, and the blobs that are not needed after it."""

    def __init__(self, node: Node, members: Sequence[Node]):
        self.node, self.members = node, members
        self.done: list = []


def steps(nodes: Sequence[Node], kept: Collection[str]) -> list[Step]:
    """The nodes as Steps, in order; blobs named in `kept`, those nobody reads, and those that
    cannot be made again keep values.

    A group runs where its last node was. All of its bottoms are there by then, and unchanged: after
    the net's splits every value has one reader.
    """
    once = (name for node in nodes if not node.layer.repeats for name in node.top_names)
    readers, kept = _readers(nodes), {*kept, *_outputs(nodes), *once}
    groups: dict[int, list[int]] = {}  # the index of the last node -> those of all
    taken: set[int] = set()
    for index in reversed(range(len(nodes))):  # the last of several terms takes in their sum
        group = _group(nodes, index, readers, kept, taken)
        if group:
            groups[group[-1]] = group
            taken.update(group)
    runs, found = _joined(nodes, groups, readers, kept), []
    for index, node in enumerate(nodes):
        if index in runs:
            members = [nodes[i] for group in runs[index] for i in group]
            found.append(Step(_as_one(nodes, runs[index]), members))
        elif index not in taken:
            found.append(Step(node, [node]))
    _note_done(found, kept)
    return found


def _outputs(nodes):
    """The names of the blobs that no node reads."""
    names: set[str] = set()
    for node in nodes:
        names.difference_update(node.bottom_names)
        names.update(node.top_names)
    return names


def _readers(nodes):
    """{index of a node: the indices of those that read its tops}"""
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for producer in node.producers:
            readers.setdefault(producer, []).append(index)
    return readers


def _group(nodes, index, readers, kept, taken):
    """The indices of the nodes that run as one from `index` on, or nothing."""
    first = nodes[index]
    folded = FOLDED.get(type(first.layer))
    if (
        folded is None
        or len(first.bottoms) != 1
        or not folded.can_begin(first.layer)
        or any(first.loss_weights)
    ):
        return []
    group, may_scale, may_add = [index], True, folded.can_add(first.layer)
    while True:
        last = nodes[group[-1]]
        following = readers.get(group[-1], ())
        if len(following) != 1 or following[0] in taken or any(last.loss_weights):
            return group
        node = nodes[following[0]]
        if last.top_names[0] in kept and node.tops != last.tops or any(node.loss_weights):
            return group
        if may_scale and node.layer.per_channel() is not None:
            group.append(following[0])
        elif may_add and _adds_two(node):
            may_scale = may_add = False
            group.append(following[0])
        elif _is_activation(node, after_sum=not may_scale):
            return [*group, following[0]]
        else:
            return group


def _joined(nodes, groups, readers, kept):
    """{index of the last node: one group, or two that run as a FoldedSeparable}"""
    runs = {last: [group] for last, group in groups.items()}
    begun = {group[0]: group for group in groups.values()}
    for last, group in groups.items():
        node, following = nodes[last], readers.get(last, ())
        then = begun.get(following[0]) if len(following) == 1 else None
        if then is None or node.top_names[0] in kept or any(node.loss_weights):
            continue
        if FoldedSeparable.can_join(nodes[group[0]].layer, nodes[then[0]].layer):
            del runs[last]
            runs[then[-1]] = [group, then]
    return runs


def _is_activation(node, after_sum):
    """Whether oneDNN can do the node's layer as it stores values; after a sum only a ReLU."""
    activation = node.layer.activation()
    return activation is not None and (not after_sum or activation[0] == "relu")


def _adds_two(node):
    layer = node.layer
    return (
        layer.type == "Eltwise"
        and layer.adds
        and layer.coeff == [1, 1]
        and len(set(node.producers)) == 2
    )


def _as_one(nodes, groups):
    """The node that one or two groups run as: its bottoms are those that come from outside."""
    group = [index for part in groups for index in part]
    members = [nodes[index] for index in group]
    layers = [FOLDED[type(nodes[part[0]].layer)]([nodes[i] for i in part]) for part in groups]
    first, last = members[0], members[-1]
    ways = [
        way
        for node in members
        for way in zip(node.bottom_names, node.bottoms, node.producers, strict=True)
        if way[2] not in group
    ]
    names, bottoms, producers = map(list, zip(*ways, strict=True))
    return Node(
        first.param,
        layers[0] if len(layers) == 1 else FoldedSeparable(*layers),
        names,
        last.top_names,
        bottoms,
        last.tops,
        producers,
        [False] * len(bottoms),
        last.loss_weights,
    )


def _note_done(found, kept):
    """Write down after which step nobody needs a blob, or that it is never made."""
    last_use, lasting = {}, set()
    for step in found:
        for node in step.members:
            last_use.update(dict.fromkeys([*node.bottoms, *node.tops], step))
            for name, blob in zip(node.top_names, node.tops, strict=True):
                if name in kept or not node.bottoms:
                    lasting.add(blob)
    for blob, step in last_use.items():
        if blob not in lasting:
            step.done.append(blob)
