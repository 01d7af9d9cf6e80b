"""Flows in one sweep against one backward range after another, on nets drawn at random."""

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from relaybp import backward, flows
from relaybp.relay_file import parse_relay

pytestmark = pytest.mark.usefixtures("project_layers", "double")

NETS = 24


def draw(random):
    """(prototxt, relay file): a trunk with shortcuts, two to five losses and where they end."""
    lines = [
        """layer { name: "data" type: "Input" top: "data" top: "label"
             input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } shape { dim: 2 } } }"""
    ]
    depth, below = int(random.randint(4, 10)), ["data"]
    for level in range(depth):
        lines.append(layer(f"conv{level}", below[-1]))
        if random.rand() < 0.6:
            lines.append(normalized(f"conv{level}", random))
        if level and random.rand() < 0.5:
            other = below[random.randint(1, len(below))]
            lines.append(
                f'layer {{ name: "sum{level}" type: "Eltwise" bottom: "conv{level}" '
                f'bottom: "{other}" top: "sum{level}" }}'
            )
            below.append(f"sum{level}")
        else:
            below.append(f"conv{level}")
    levels = [int(level) for level in random.randint(depth, size=random.randint(1, 5))]
    ends = [int(random.randint(level + 1)) for level in levels]
    ends[int(np.argmax(levels))] = 0  # one trains the bottom, and the final loss what is above it
    levels.append(depth - 1)
    ends.append(int(random.randint(max(levels[:-1]) + 2)))
    ends[-1] = min(ends[-1], depth - 1)
    branches = [head(f"loss{i}", below[level + 1], random) for i, level in enumerate(levels)]
    order = random.permutation(len(branches))
    relay = [f'flow {{ loss: "loss{i}" to: "conv{end}" }}' for i, end in enumerate(ends)]
    return "\n".join(lines + [branches[i] for i in order]), "\n".join(relay)


def layer(name, bottom):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        "convolution_param { num_output: 3 kernel_size: 3 pad: 1 "
        'weight_filler { type: "gaussian" std: 0.3 } } }'
    )


def normalized(name, random):
    relu = (
        f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'
        if random.rand() < 0.5
        else ""
    )
    return (
        f'layer {{ name: "{name}_bn" type: "BatchNorm" bottom: "{name}" top: "{name}" }}'
        f'layer {{ name: "{name}_scale" type: "Scale" bottom: "{name}" top: "{name}" '
        f"scale_param {{ bias_term: true }} }} {relu}"
    )


def head(loss, bottom, random):
    weight = random.choice([0.3, 1.0, 2.0])
    return (
        f'layer {{ name: "{loss}_fc" type: "InnerProduct" bottom: "{bottom}" top: "{loss}_fc" '
        'inner_product_param { num_output: 4 weight_filler { type: "xavier" } } } '
        f'layer {{ name: "{loss}" type: "SoftmaxWithLoss" bottom: "{loss}_fc" bottom: "label" '
        f'top: "{loss}" loss_weight: {weight} }}'
    )


def gradients(net, run):
    net.clear_param_diffs()
    net.forward()
    run()
    return {
        f"{name}[{index}]": blob.diff.copy()
        for name, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    }


@pytest.mark.parametrize("seed", range(NETS))
def test_one_sweep_is_the_sum_of_its_ranges(seed):
    random = np.random.RandomState(seed)
    text, relay = draw(random)
    param = text_format.Parse(text, caffe_pb2.NetParameter())
    caffe.set_random_seed(seed)
    net = caffe.Net(param, caffe.TRAIN)
    net.blobs["data"].data[...] = random.randn(*net.blobs["data"].shape)
    net.blobs["label"].data[...] = random.randint(0, 4, 2)
    planned = flows.plan(net, parse_relay(relay), net.param)
    expected = gradients(net, backward.Ranges(net, planned))
    net.keep_blobs = net.keep_diffs = False
    found = gradients(net, backward.Fused(net, planned))
    for key, value in expected.items():
        np.testing.assert_allclose(
            found[key], value, rtol=1e-9, atol=1e-12 * max(1, np.abs(value).max()), err_msg=key
        )
    assert max(np.abs(value).max() for value in expected.values()) > 0
