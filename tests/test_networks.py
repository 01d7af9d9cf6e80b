"""Every network of prototxt/ at reduced size: each schedule's gradients are autograd's per loss.

In double precision, against a second implementation (reference.py). The marked ones are for
`make test-heavy`.
"""

import numpy as np
import pytest
import torch

import caffe
import reference
import relay_cases
from relaybp import backward, flows, models
from relaybp.relay_file import schedule_name

pytestmark = pytest.mark.usefixtures("project_layers", "double")

TOLERANCE = 1e-6  # relative to a blob's largest gradient; rounding grows over 200 layers
LIGHT = ("plain16", "resnet20")
NETWORKS = [name[: -len("_relay")] for name in models.names() if name.endswith("_relay")]


def build(name, folder):
    """(net with seeded weights, RelayParameter or None, NetParameter) of a model's method."""
    path, relay, param = relay_cases.prepare(caffe, name, folder)
    net = caffe.get_solver(path).net
    relay_cases.fill(net)
    return net, relay, param


def gradients(net, run):
    net.clear_param_diffs()
    net.forward()
    run()
    return {
        name: [blob.diff.copy() for blob in blobs]
        for name, blobs in net.params.items()
        if net.layer_dict[name].type != "BatchNorm"
    }


def autograd_per_loss(net, param):
    """{loss: {layer: [gradient, ...]}}, every loss to the bottom."""
    inputs = {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs}
    weights = {
        name: [torch.tensor(blob.data.copy()) for blob in blobs]
        for name, blobs in net.params.items()
    }
    losses = {name: weight for name, weight in net.blob_loss_weights.items() if weight}
    return {
        loss: reference.flow_gradients(param, inputs, weights, [(loss, set(weights))], losses)
        for loss in losses
    }


def check(found, expected, trained):
    """`trained`: {loss: the names of the layers that it trains}."""
    for name, arrays in found.items():
        for index, array in enumerate(arrays):
            total = sum(
                (expected[loss][name][index] for loss, names in trained.items() if name in names),
                torch.zeros(array.shape, dtype=torch.float64),
            ).numpy()
            scale = max(np.abs(total).max(), 1e-8)
            assert np.abs(array - total).max() < TOLERANCE * scale, (name, index)


@pytest.mark.parametrize(
    "network",
    [name if name in LIGHT else pytest.param(name, marks=pytest.mark.heavy) for name in NETWORKS],
)
def test_gradients_of_every_schedule(tmp_path, network):
    net, relay, param = build(network + "_relay", str(tmp_path))
    expected = autograd_per_loss(net, param)
    planned = flows.plan(net, relay, param)
    names = {flow.loss: {net._layer_names[i] for i in flow.layers} for flow in planned}
    assert set(names) == set(expected)
    everything = dict.fromkeys(names, set(net.params))
    net.clear_param_diffs()
    check(gradients(net, backward.Whole(net)), expected, everything)  # JOINT
    for way in (backward.Fused, backward.Ranges):  # RELAY
        check(gradients(net, way(net, planned)), expected, names)
    for flow in planned:  # one at a time
        check(gradients(net, backward.Fused(net, [flow])), expected, {flow.loss: names[flow.loss]})
    assert schedule_name(relay) in ("RELAY", "MULTI_WAY")
    del net
    plain, _, _ = build(network, str(tmp_path))
    check(gradients(plain, backward.Whole(plain)), expected, {"loss": set(plain.params)})
