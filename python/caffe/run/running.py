"""Running one node of a net: forward, and backward for the diffs that arrive."""

import torch

from caffe_plain.errors import CaffeError, ShapeError

from ..catalogue.factor import scaled
from ..graph import shortage
from ..graph.build import put_loss_weight, reshape

_FOREIGN = (RuntimeError, IndexError, MemoryError)  # what PyTorch raises


def forward_node(node):
    """Run the layer on its bottoms' values and store what it makes."""
    _keep_inputs(node, _compute(node, node.layer.forward))


def take_back(node, tops):
    """As if `forward_node` had run again: the layer has made these values before."""
    _keep_inputs(node, [blob.tensor for blob in node.bottoms])
    for blob, tensor in zip(node.tops, tops, strict=True):
        blob.tensor = tensor


def _keep_inputs(node, bottoms):
    if node.in_place and node.layer.reads_bottom and not node.layer.shares_data:
        node.inputs = bottoms


def infer_step(step, spread):
    """The same where no backward follows; drop what nobody needs any more, return the losses."""
    node = step.node
    node.inputs = None
    _compute(node, node.layer.infer)
    losses = weighted_losses(node) if any(node.loss_weights) else []
    for blob in step.done:
        blob.drop_data(spread)
    return losses


def _compute(node, method):
    """Let a method of the node's layer make the values of the tops; return those of the bottoms."""
    layer, shapes, bottoms = node.layer, [], []
    for blob in node.bottoms:
        shapes.append(blob.shape)
        bottoms.append(blob.tensor)
    if node.shapes != shapes:
        reshape(node)
    if layer.shares_data:
        for blob in node.tops:
            blob.share_data(node.bottoms[0])
        return bottoms
    tops = _run(node, "forward", method, *bottoms)
    if isinstance(tops, torch.Tensor):
        node.tops[0].tensor = tops
    else:
        for blob, tensor in zip(node.tops, tops, strict=True):
            blob.tensor = tensor
    return bottoms


def weighted_losses(node):
    """The sums of the node's tops that have loss weights, each times its weight."""
    losses = []
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if weight:
            if not blob.diff_fits:  # the top has a new shape
                put_loss_weight(blob, weight)
            losses.append(scaled(blob.tensor.sum(), weight))
    return losses


def backward_node(node):
    """Run the layer backward with the diffs of its tops; store those of its bottoms."""
    diffs = [blob.diff_tensor for blob in node.tops]
    for blob, diff in zip(
        node.bottoms, backward_both(node, diffs, node.propagate_down), strict=True
    ):
        if diff is not None:
            blob.diff_tensor = diff


def drop_diffs(node):
    """Free the diffs that came to a node, except losses' weights and those it passed on itself."""
    for blob, weight in zip(node.tops, node.loss_weights, strict=True):
        if not weight and blob not in node.bottoms:
            blob.clear_diff()


def backward_both(node, diffs, wanted):
    """Add to the parameters' diffs; return the diffs of the wanted bottoms, None for the others."""
    layer = node.layer
    if not any(layer.param_propagate_down):
        return backward_data(node, diffs, wanted)
    if not any(wanted):
        backward_params(node, diffs)
        return backward_data(node, diffs, wanted)
    if node.refused:
        _refuse(node, wanted)
    return _run(node, "backward", layer.backward_both, diffs, *_values(node), wanted)


def backward_params(node, diffs):
    """Add to the parameters' diffs."""
    _run(node, "backward", node.layer.backward_params, diffs, *_values(node))


def backward_data(node, diffs, wanted):
    """The diffs of the wanted bottoms, None for the others."""
    if not any(wanted) and not node.layer.backward_is_whole:
        return [None] * len(node.bottoms)
    if node.refused:
        _refuse(node, wanted)
    return _run(node, "backward", node.layer.backward, diffs, *_values(node), wanted)


def backward_several(node, flows):
    """The diffs of the bottoms for each of the flows (diffs, wanted, counts); see TensorLayer."""
    return _run(node, "backward", node.layer.backward_several, flows, *_values(node))


def _run(node, what, method, *arguments):
    """What a method of the node's layer returns; an error of PyTorch's gets the layer's name."""
    try:
        return method(*arguments)
    except CaffeError:
        raise  # as it is, with its own cause
    except AttributeError as error:
        if what == "forward" or not any(error.obj is part for part in node.layer.parts()):
            raise
        raise node.layer.error(
            f"backward found no {error.name!r}, which forward leaves: run the layer forward first"
        ) from error
    except _FOREIGN as error:
        name = shortage.named if shortage.is_shortage(error) else _named
        raise name(error, node, what) from error


def _values(node):
    """The bottoms and tops that backward reads."""
    bottoms = node.inputs if node.inputs is not None else [b.tensor for b in node.bottoms]
    return bottoms, [blob.tensor for blob in node.tops]


def _refuse(node, wanted):
    """Raise if backward must pass a gradient to labels and the like."""
    for index in node.refused:
        if wanted[index]:
            raise node.layer.error(
                f"no gradient can be passed to bottom {index}, {node.bottom_names[index]!r}, but "
                "a layer below it learns; say propagate_down: false for that bottom here"
            )


def _named(error, node, what):
    """PyTorch's error as one of this package's that names the layer."""
    return ShapeError(
        f"layer {node.name!r} ({node.layer.type}) failed in {what} on bottoms "
        f"{[blob.shape for blob in node.bottoms]}: {error}"
    )
