"""From a NetParameter to nodes: layers set up, blobs wired, parameters shared, backward planned."""

from collections import OrderedDict
from dataclasses import dataclass, field

from caffe_plain.errors import CaffeError, LayerError, ShapeError

from .. import layer as layers
from ..blob import Blob
from ..proto import caffe_pb2
from .shortage import is_shortage, named

AUTOMATIC = "(automatic)"


@dataclass(eq=False)
class Node:
    """One layer in its place in the net."""

    param: object  # the LayerParameter, as filtered and split
    layer: layers.TensorLayer
    bottom_names: list
    top_names: list
    bottoms: list  # Blobs
    tops: list
    producers: list  # for each bottom: the index of the node that wrote it
    propagate_down: list  # for each bottom: does backward compute its diff
    loss_weights: list  # for each top
    needs_backward: bool = False
    shapes: list = None  # the bottoms' shapes that the layer was last reshaped for
    inputs: tuple = None  # what an in-place layer read in forward
    refused: tuple = ()  # bottoms that cannot give the gradient that backward wants (labels)
    name: str = field(init=False)

    def __post_init__(self):
        self.name = self.param.name
        self.in_place = any(top in self.bottom_names for top in self.top_names)


@dataclass(eq=False)
class Param:
    """One learnable blob; shared ones appear once."""

    blob: Blob
    name: str  # "layer[index]" or the ParamSpec's name
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    spec: object = None  # the ParamSpec of its owner


@dataclass(eq=False)
class Graph:
    """What `build` makes from a NetParameter."""

    nodes: list
    blobs: OrderedDict  # blob name -> Blob
    params: list  # Param, in order of first use
    inputs: list  # names of the tops of Input layers
    outputs: list  # names of the tops that nobody consumes


def build(param):
    """The Graph of an upgraded, filtered NetParameter with its splits."""
    graph = Graph([], OrderedDict(), [], [], [])
    needed, writers, available, owners = {}, {}, set(), {}
    for layer_param in param.layer:
        node = _make_node(graph, layer_param, param.state.phase, needed, available)
        node.producers = [writers[name] for name in node.bottom_names]
        writers.update(dict.fromkeys(node.top_names, len(graph.nodes)))
        _set_up(node)
        _add_params(graph, node, owners)
        # as in Caffe, by what the prototxt says, even if the layer itself knows better
        wanted = [p.lr_mult != 0 for p in node.param.param]
        wanted += [True] * (len(node.layer.blobs) - len(wanted))
        node.layer.param_propagate_down = wanted[: len(node.layer.blobs)]
        node.needs_backward = any(node.layer.param_propagate_down) or any(
            needed[name] for name in node.bottom_names
        )  # whatever propagate_down says
        for name in node.top_names:
            needed[name] = node.needs_backward
        graph.nodes.append(node)
    graph.outputs = sorted(available)
    _plan_backward(graph.nodes)
    if param.force_backward:
        _force_backward(graph.nodes)
    for node in graph.nodes:
        if node.needs_backward and node.layer.always_propagates:
            node.propagate_down = [True] * len(node.bottoms)
        node.refused = tuple(
            index
            for index, propagate in enumerate(node.propagate_down)
            if propagate and not node.layer.allows_backward(index)
        )
    _permit_overwriting(graph.nodes)
    return graph


def _make_node(graph, source, phase, needed, available):
    param = caffe_pb2.LayerParameter()
    param.CopyFrom(source)
    if not param.HasField("phase"):
        param.phase = phase
    if param.propagate_down and len(param.propagate_down) != len(param.bottom):
        raise LayerError(
            f"layer {param.name!r} ({param.type}): propagate_down has "
            f"{len(param.propagate_down)} values for {len(param.bottom)} bottoms; "
            "give none or one for each"
        )
    made = layers.create(param, param.phase)
    bottoms = _take_bottoms(graph, param, available)
    tops = _add_tops(graph, param, available)
    if param.type == "Input":
        graph.inputs.extend(param.top)
    propagate_down = [
        param.propagate_down[i] if param.propagate_down else needed[name]
        for i, name in enumerate(param.bottom)
    ]
    return Node(
        param,
        made,
        list(param.bottom),
        list(param.top),
        bottoms,
        tops,
        [],
        propagate_down,
        [0.0] * len(tops),
    )


def _take_bottoms(graph, param, available):
    for index, name in enumerate(param.bottom):
        if name not in available:
            raise LayerError(
                f"layer {param.name!r} ({param.type}): bottom {index}, {name!r}, is "
                "already consumed or was never produced"
            )
        available.discard(name)
    return [graph.blobs[name] for name in param.bottom]


def _add_tops(graph, param, available):
    cls = layers.class_of(param.type)
    if cls.auto_tops:
        param.top.extend([AUTOMATIC] * (cls.top_count[0] - len(param.top)))
    tops = []
    for index, name in enumerate(param.top):
        in_place = index < len(param.bottom) and param.bottom[index] == name
        if in_place:
            tops.append(graph.blobs[name])
        elif name in graph.blobs and name != AUTOMATIC:
            raise LayerError(
                f"layer {param.name!r} ({param.type}): top {name!r} is already the "
                "top of another layer; rename one, or make it run in place by "
                "giving the bottom of the same index that name"
            )
        else:
            tops.append(Blob())
            graph.blobs[name] = tops[-1]
        if name != AUTOMATIC:
            available.add(name)
    return tops


def _set_up(node):
    layer, param = node.layer, node.param
    shapes = [blob.shape for blob in node.bottoms]
    layer.connect(node.bottoms, node.tops)
    try:
        layer.setup(*shapes)
        reshape(node)
        _set_loss_weights(node)
    except CaffeError:
        raise
    except (IndexError, ZeroDivisionError, OverflowError, RuntimeError, MemoryError) as error:
        if is_shortage(error):
            raise named(error, node, "its set-up") from error
        raise ShapeError(
            f"layer {node.name!r} ({param.type}) cannot be set up for bottoms "
            f"{[tuple(shape) for shape in shapes]}: {error}"
        ) from error


def _set_loss_weights(node):
    layer, param = node.layer, node.param
    if len(param.loss_weight) not in (0, len(node.tops)):
        raise LayerError(
            f"layer {node.name!r} ({param.type}): loss_weight has "
            f"{len(param.loss_weight)} values for {len(node.tops)} tops; "
            "give none or one for each"
        )
    if param.loss_weight:
        node.loss_weights = list(param.loss_weight)
    elif layer.is_loss:
        node.loss_weights[0] = 1.0
    if layer.is_loss:
        node.tops[0].master = True  # computed in full precision
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if weight:
            put_loss_weight(blob, weight)


def put_loss_weight(blob, weight):
    """Make `weight` the diff of a loss's top, in the precision of its values."""
    blob.diff_tensor = blob.tensor.new_full(blob.shape, weight)


def reshape(node):
    """Let the layer compute its tops' shapes from its bottoms' current ones."""
    shapes = [blob.shape for blob in node.bottoms]
    try:
        tops = node.layer.reshape(*shapes)
    except (IndexError, ZeroDivisionError, OverflowError) as error:
        raise node.layer.shape_error(
            f"cannot take bottoms of the shapes {[tuple(shape) for shape in shapes]}: {error}"
        ) from error
    if len(tops) != len(node.tops):
        raise node.layer.error(
            f"makes {len(tops)} tops from {len(shapes)} bottoms; found "
            f"{len(node.tops)}: {node.top_names}"
        )
    if not node.in_place:
        for name, blob, shape in zip(node.top_names, node.tops, tops, strict=True):
            try:
                blob.reshape(*shape)
            except ShapeError as error:
                raise node.layer.shape_error(f"top {name!r}: {error}") from None
    node.shapes = shapes


def _add_params(graph, node, owners):
    specs, blobs = node.layer.param_specs(), node.layer.blobs
    if len(specs) > len(blobs):
        raise LayerError(
            f"layer {node.name!r} ({node.param.type}): {len(specs)} param entries "
            f"for {len(blobs)} parameter blobs; delete the surplus"
        )
    for index, blob in enumerate(blobs):
        spec = specs[index] if index < len(specs) else caffe_pb2.ParamSpec()
        if spec.name and spec.name in owners:
            _share(owners[spec.name], blob, spec, f"layer {node.name!r}, param {index}")
            continue
        made = Param(
            blob, spec.name or f"{node.name}[{index}]", spec.lr_mult, spec.decay_mult, spec
        )
        graph.params.append(made)
        if spec.name:
            owners[spec.name] = made


def _share(owner, blob, spec, where):
    """Make `blob` use its owner's memory, and check that the two agree."""
    permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
    fits = blob.count == owner.blob.count if permissive else blob.shape == owner.blob.shape
    if not fits:
        raise ShapeError(
            f"{where} shares {owner.name!r} of shape {owner.blob.shape}, but has "
            f"shape {blob.shape}; "
            + (
                "the counts must agree"
                if permissive
                else "the shapes must agree (or share_mode: PERMISSIVE and equal counts)"
            )
        )
    for field_name in ("lr_mult", "decay_mult"):
        if spec.HasField(field_name):
            if owner.spec.HasField(field_name) and (
                getattr(spec, field_name) != getattr(owner, field_name)
            ):
                raise LayerError(
                    f"{where} shares {owner.name!r}: {field_name} "
                    f"{getattr(spec, field_name)} against the owner's "
                    f"{getattr(owner, field_name)}; give one value"
                )
            setattr(owner, field_name, getattr(spec, field_name))
    blob.share_data(owner.blob)
    blob.share_diff(owner.blob)


def _plan_backward(nodes):
    """Switch backward off where no loss is above, or where nothing uses the diff."""
    under_loss, skipped = set(), set()
    for node in reversed(nodes):
        contributes = any(
            weight or name in under_loss
            for weight, name in zip(node.loss_weights, node.top_names, strict=True)
        )
        if node.needs_backward and all(name in skipped for name in node.top_names):
            node.needs_backward = False
            node.propagate_down = [False] * len(node.bottoms)
        if not contributes:
            node.needs_backward = False
            node.propagate_down = [False] * len(node.bottoms)
        for name, propagate in zip(node.bottom_names, node.propagate_down, strict=True):
            if contributes:
                under_loss.add(name)
            if not propagate:
                skipped.add(name)


def _force_backward(nodes):
    for node in nodes:
        node.needs_backward = node.layer.differentiable
        node.propagate_down = [
            propagate or node.layer.allows_backward(index)
            for index, propagate in enumerate(node.propagate_down)
        ]
        node.layer.param_propagate_down = [True] * len(node.layer.blobs)


def _permit_overwriting(nodes):
    """Let an in-place layer compute into its bottom's memory if no other layer reads that."""
    writer = {}
    for node in nodes:
        below = writer.get(node.bottom_names[0]) if node.bottom_names else None
        node.layer.overwrite = (
            node.in_place
            and below is not None
            and not below.layer.reads_top
            and not below.layer.shares_data
            and not node.layer.reads_bottom
            and below.layer.makes_fresh_tops
        )
        writer.update((name, node) for name in node.top_names)
