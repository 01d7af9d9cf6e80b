"""Relay cases that both engines run: the same net, weights and batch, and a digest of gradients.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where tests/oracle/record_relay.py
records what it computes.
"""

import os
import zlib

import numpy as np
from google.protobuf import text_format

from nets import BRANCHED
from relaybp import backward, engine, flows, models, relay_file, run_folder

RESNET_BATCH, RESNET_SIZE = 4, 80  # the smallest input whose auxiliary pooling window fits
SAMPLES = 48                       # gradient values kept of each parameter blob

# name -> (the net's text or a model name, relay file text or None)
CASES = {
    "branched_relay": (BRANCHED, 'flow { loss: "loss" to: "res2" } '
                                 'flow { loss: "aux_loss" to: "conv1" }'),
    "branched_inside_a_block": (BRANCHED, 'flow { loss: "loss" to: "res2_branch2b" } '
                                          'flow { loss: "aux_loss" to: "conv1" }'),
    "branched_multiloss": (BRANCHED, None),
    "resnet50_relay": ("resnet50_relay", None),
    "resnet50_multiloss": ("resnet50_multiloss", None),
    "resnet50": ("resnet50", None),
}


def prepare(caffe, name, folder, batch=RESNET_BATCH, size=RESNET_SIZE):
    """Write the case's net and solver into `folder`.

    Returns the solver's path, the RelayParameter (or None) and the NetParameter.
    """
    pb = caffe.proto.caffe_pb2
    source, relay_text = CASES.get(name, (name, None))
    solver = pb.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=0.9,
                                weight_decay=2e-4, max_iter=10)
    if source is BRANCHED:
        net = text_format.Merge(source, pb.NetParameter())
        relay = relay_file.parse_relay(relay_text) if relay_text else None
    else:
        model, method = models.find(source)
        net = with_inputs(pb, run_folder.read(os.path.join(model, "train_val.prototxt"),
                                              pb.NetParameter()), batch, size)
        relay = None
        if method == "RELAY":
            relay = relay_file.read_relay(os.path.join(model, "relay.prototxt"))
        if method == "STANDARD":
            solver.train_state.stage.append(run_folder.STANDARD_STAGE)
    solver.net = os.path.join(folder, name + ".net.prototxt")
    solver.snapshot_prefix = os.path.join(folder, name)
    run_folder.write(solver.net, net)
    path = os.path.join(folder, name + ".solver.prototxt")
    run_folder.write(path, solver)
    return path, relay, net


def with_inputs(pb, net, batch=RESNET_BATCH, size=RESNET_SIZE):
    """The net with Input layers for Data layers, and without dropout's random masks."""
    kept = pb.NetParameter(name=net.name)
    layer = kept.layer.add(name="data", type="Input", top=["data", "label"])
    layer.input_param.shape.add(dim=[batch, 3, size, size])
    layer.input_param.shape.add(dim=[batch])
    for layer in net.layer:
        if layer.type != "Data":
            kept.layer.add().CopyFrom(layer)
            if layer.type == "Dropout":
                kept.layer[-1].dropout_param.dropout_ratio = 0
    return kept


def fill(net):
    """Seeded weights and batch: the same numbers under every engine."""
    for name, blobs in net.params.items():
        random = np.random.RandomState(zlib.crc32(name.encode()) % 2 ** 31)
        kind = net.layers[list(net._layer_names).index(name)].type
        for index, blob in enumerate(blobs):
            blob.data[...] = initial(kind, name, index, tuple(blob.shape), random)
    random = np.random.RandomState(0)
    data, label = net.blobs["data"], net.blobs["label"]
    data.data[...] = random.randn(*data.shape)
    label.data[...] = random.randint(0, 5, tuple(label.shape))


def initial(kind, name, index, shape, random):
    """A parameter blob that keeps activations and gradients in range.

    The last Scale of a residual branch gets 0.2, else rounding errors grow over 50 layers.
    """
    if kind == "BatchNorm":
        return np.zeros(shape)
    if kind == "Scale":
        return (0.2 if name.endswith("branch2c") else 1.0) if index == 0 else 0.0
    if index == 1:
        return random.uniform(-0.1, 0.1, shape)
    return random.randn(*shape) * np.sqrt(2.0 / np.prod(shape[1:]))


def gradients(caffe, name, folder, fused=True):
    """{"layer[index]": gradient} after one forward and the case's backward, and the losses."""
    path, relay, param = prepare(caffe, name, folder)
    net = engine.make_solver(caffe, path).net
    fill(net)
    planned = flows.plan(net, relay, flows.frozen_layers(param)) if relay is not None else None
    net.clear_param_diffs()
    net._forward(0, len(net.layers) - 1)
    backward.choose(net, planned, fused)()
    found = {"%s[%d]" % (layer, index): np.array(blob.diff)
             for layer, blobs in net.params.items() for index, blob in enumerate(blobs)}
    losses = {blob: float(net.blobs[blob].data)
              for blob, weight in net.blob_loss_weights.items() if weight}
    return found, losses


def digest(array):
    """The norm of a gradient, and SAMPLES of its values at seeded places."""
    flat = np.ascontiguousarray(array).ravel()
    places = np.random.RandomState(flat.size % 2 ** 31).randint(0, flat.size, SAMPLES)
    return np.concatenate([[np.linalg.norm(flat.astype(np.float64))], flat[places]])
