"""Relay cases that both engines run: the same net, weights and batch, and a digest of gradients.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where tests/oracle/record_relay.py
records what it computes.
"""

import os
import re
import zlib

import numpy as np
from google.protobuf import text_format

from nets import BRANCHED
from relaybp import engines, flows, models, relay_file, run_folder
from relaybp.data_layers import data_layers, feed_of

# The smallest inputs that fit the auxiliary branch. Small images keep their size.
BATCH, SIZE, SIZES, SMALL = 4, 80, {"inception_v3": 267}, 64
FC = 64  # outputs of a reduced network's fc6 and fc7
NARROWER = {"inception_v3": 4}  # how many times fewer channels, where maps are large
# Seeds of batches in which no max pooling window holds two nearly equal values.
SEEDS = {"inception_v3_relay": 7}
SAMPLES = 8  # gradient values kept of each parameter blob

# name -> (the net's text or a model name, relay file text or None)
CASES = {
    "branched_relay": (
        BRANCHED,
        'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "conv1" }',
    ),
    "branched_inside_a_block": (
        BRANCHED,
        'flow { loss: "loss" to: "res2_branch2b" } flow { loss: "aux_loss" to: "conv1" }',
    ),
    "branched_multiloss": (BRANCHED, None),
    "resnet50_relay": ("resnet50_relay", None),
    "resnet50_multiloss": ("resnet50_multiloss", None),
    "resnet50": ("resnet50", None),
    "model_a_relay": ("model_a_relay", None),
    "model_b_relay": ("model_b_relay", None),
    "inception_v3_relay": ("inception_v3_relay", None),
}


def prepare(caffe, name, folder, batch=None, size=None):
    """Write the case's net and solver into `folder`; a model at reduced size, unless it is given.

    Returns the solver's path, the RelayParameter (or None) and the NetParameter.
    """
    pb = caffe.proto.caffe_pb2
    source, relay_text = CASES.get(name, (name, None))
    solver = pb.SolverParameter(
        base_lr=0.01, lr_policy="fixed", momentum=0.9, weight_decay=2e-4, max_iter=10
    )
    if source is BRANCHED:
        net = text_format.Merge(source, pb.NetParameter())
        relay = relay_file.parse_relay(relay_text) if relay_text else None
    else:
        model, method = models.find(source)
        net = run_folder.read(os.path.join(model, "train_val.prototxt"), pb.NetParameter())
        net = with_inputs(pb, net, batch, size) if size else reduced(pb, net, model)
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


def reduced(pb, net, model):
    """The net on a few small images, its widest layers narrow."""
    crop, model = data_layers(net.layer)[0].get("crop_size"), os.path.basename(model)
    size = crop if crop <= SMALL else SIZES.get(model, SIZE)
    net = with_inputs(pb, net, 2 if size == crop else BATCH, size)
    for layer in net.layer:
        if layer.name in ("fc6", "fc7"):
            layer.inner_product_param.num_output = FC
        if layer.type == "Convolution":
            layer.convolution_param.num_output //= NARROWER.get(model, 1)
    return net


def with_inputs(pb, net, batch, size):
    """The net with Input layers for data layers, and without dropout's random masks."""
    kept = pb.NetParameter(name=net.name)
    layer = kept.layer.add(name="data", type="Input", top=["data", "label"])
    layer.input_param.shape.add(dim=[batch, 3, size, size])
    layer.input_param.shape.add(dim=[batch])
    for layer in net.layer:
        if not feed_of(layer):
            kept.layer.add().CopyFrom(layer)
            if layer.type == "Dropout":
                kept.layer[-1].dropout_param.dropout_ratio = 0
            if re.match(r"spp\d+$", layer.name):  # bins of a map that is 14 wide at 224
                pool = kept.layer[-1].pooling_param
                pool.kernel_size = pool.stride = -(-size // 16 // int(layer.name[3:]))
    return kept


def fill(net, seed=0, decided=False):
    """Seeded weights and batch: the same numbers under every engine.

    decided: make the biases after BatchNorm so large that hardly any value is near the point where
    its ReLU switches. There, whether the ReLU passes would depend on the order of a sum in fp32,
    and so on the processor and the number of threads; every gradient below would move by 1e-3 or
    more.
    """
    for name, blobs in net.params.items():
        random = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
        kind = net.layers[list(net._layer_names).index(name)].type
        for index, blob in enumerate(blobs):
            blob.data[...] = initial(kind, name, index, tuple(blob.shape), random)
            if decided and kind == "Scale" and index == 1:
                blob.data[...] = deciding(name, tuple(blob.shape), random)
    random = np.random.RandomState(seed)
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


def deciding(name, shape, random):
    """Biases by which a quarter of the channels is off and the others are on, by three sigma.

    Larger ones would cost digits. The sum to which a residual branch (sigma 0.2) adds stays as
    clearly on or off.
    """
    if name.endswith("branch2c"):
        return np.full(shape, 0.6)
    return np.where(random.rand(*shape) < 0.25, -3.0, 3.0)


def gradients(caffe, name, folder, fused=True):
    """{"layer[index]": gradient} after one forward and the case's backward, and the losses."""
    path, relay, param = prepare(caffe, name, folder)
    engine = engines.of(caffe)
    net = engine.make_solver(path).net
    fill(net, SEEDS.get(name, 0), decided=True)
    planned = flows.plan(net, relay, param) if relay is not None else None
    net.clear_param_diffs()
    net._forward(0, len(net.layers) - 1)
    engine.backward(net, planned, fused)()
    found = {
        "%s[%d]" % (layer, index): np.array(blob.diff)
        for layer, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    }
    losses = {
        blob: float(net.blobs[blob].data)
        for blob, weight in net.blob_loss_weights.items()
        if weight
    }
    return found, losses


def digest(array):
    """The norm of a gradient, its largest value, and SAMPLES of its values at seeded places."""
    flat = np.ascontiguousarray(array, np.float64).ravel()
    places = np.random.RandomState(flat.size % 2**31).randint(0, flat.size, SAMPLES)
    return np.concatenate([[np.linalg.norm(flat), np.abs(flat).max()], flat[places]])
