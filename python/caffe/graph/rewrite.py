"""Rewrites of a NetParameter, each from one value to another: state filter, split insertion."""

from collections import Counter

from caffe_plain.errors import UnknownNameError, nearest
from caffe_plain.phases import layers_of

from ..proto import caffe_pb2


def filter_net(param, state):
    """The NetParameter with the layers of one State, which it then carries."""
    filtered = caffe_pb2.NetParameter()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    filtered.state.CopyFrom(caffe_pb2.NetState(**state._asdict()))
    filtered.layer.extend(layers_of(param, state))
    return filtered


def insert_splits(param):
    """Add a Split wherever a top feeds several layers, or feeds one and is also a loss."""
    uses, loss_weights = _count_uses(param)
    result = caffe_pb2.NetParameter()
    result.CopyFrom(param)
    del result.layer[:]
    producer, handed_out = {}, Counter()
    for index, layer in enumerate(param.layer):
        added = result.layer.add()
        added.CopyFrom(layer)
        for j, blob in enumerate(layer.bottom):
            top = producer[blob]
            if uses[top] > 1:
                source = param.layer[top[0]].name
                added.bottom[j] = _split_blob(source, blob, top[1], handed_out[top])
                handed_out[top] += 1
        for j, blob in enumerate(layer.top):
            producer[blob] = (index, j)
            if uses[index, j] > 1:
                weight = loss_weights.get((index, j), 0)
                _add_split(result.layer.add(), layer.name, blob, j, uses[index, j], weight)
                if weight:
                    del added.loss_weight[:]
                    handed_out[index, j] += 1
    return result


def _count_uses(param):
    """How many consumers each top (layer index, top index) has, and its loss weight."""
    producer, uses, loss_weights = {}, Counter(), {}
    for index, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in producer:
                raise UnknownNameError(
                    f"layer {layer.name!r} ({layer.type}): bottom {j}, {blob!r}, is the top of no "
                    f"layer before it; {nearest(blob, producer)}"
                )
            uses[producer[blob]] += 1
        for j, blob in enumerate(layer.top):
            producer[blob] = (index, j)
            weight = layer.loss_weight[j] if j < len(layer.loss_weight) else 0
            if weight:
                loss_weights[index, j] = weight
                uses[index, j] += 1
    return uses, loss_weights


def _add_split(split, layer_name, blob, index, count, loss_weight):
    split.name = f"{blob}_{layer_name}_{index}_split"
    split.type = "Split"
    split.bottom.append(blob)
    split.top.extend(_split_blob(layer_name, blob, index, k) for k in range(count))
    if loss_weight:
        split.loss_weight.extend([loss_weight] + [0] * (count - 1))


def _split_blob(layer_name, blob, index, number):
    return f"{blob}_{layer_name}_{index}_split_{number}"
