# %% [markdown]
# # Relay Backpropagation from scratch
#
# One net with an auxiliary loss, trained by three methods, on drawn scenes:
#
# - standard: the primary loss alone;
# - joint: both losses train everything below them ("multi-loss + standard BP");
# - relay: each loss trains its own range of layers, and the ranges overlap.
#
# First what each method does to the gradients, then what comes of it. That is a picture of the
# mechanism, not a measurement: the net is shallow and the set small. The comparison on CIFAR is
# `bash tools/tables/table3.sh`, the command line is `make train MODEL=plain10_relay`.
#
#     python examples/relay_from_scratch/relay_from_scratch.py [--iterations 150]

# %%
import argparse

import cv2
import numpy as np

import caffe
import relaybp
from caffe import layers as L
from relaybp.data_prep.scenes import KINDS, draw

options = argparse.ArgumentParser()
options.add_argument("--iterations", type=int, default=150)
options, _ = options.parse_known_args()
SIDE, BATCH = 32, 32  # pixels, images


# %% [markdown]
# ## A net with two losses
# Six convolutions; the auxiliary branch leaves after the third.


# %%
def conv(n, name, bottom, outputs, stride=1):
    n[name] = L.Convolution(
        bottom,
        num_output=outputs,
        kernel_size=3,
        pad=1,
        stride=stride,
        weight_filler={"type": "msra"},
    )
    n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
    return n[name]


def head(n, prefix, bottom):
    n[f"{prefix}pool"] = L.Pooling(bottom, pool=1, global_pooling=True)
    n[f"{prefix}fc"] = L.InnerProduct(
        n[f"{prefix}pool"], num_output=len(KINDS), weight_filler={"type": "xavier"}
    )
    n[f"{prefix}loss"] = L.SoftmaxWithLoss(n[f"{prefix}fc"], n.label)


def two_losses(auxiliary=True):
    n = caffe.NetSpec()
    n.data, n.label = L.MemoryData(batch_size=BATCH, channels=3, height=SIDE, width=SIDE, ntop=2)
    x = conv(n, "conv1", n.data, 16)
    x = conv(n, "conv2", x, 24, stride=2)
    x = middle = conv(n, "conv3", x, 32)
    x = conv(n, "conv4", x, 48, stride=2)
    x = conv(n, "conv5", x, 48)
    x = conv(n, "conv6", x, 64, stride=2)
    head(n, "", x)
    if auxiliary:
        head(n, "aux_", middle)
    n.accuracy = L.Accuracy(n.fc, n.label)
    return n.to_proto()


def scenes(per_kind, seed):
    """BGR pixels (N, 3, SIDE, SIDE), about standardised, and their labels."""
    rng, kinds = np.random.RandomState(seed), list(KINDS)
    labels = rng.permutation(np.arange(per_kind * len(kinds)) % len(kinds))
    pixels = [cv2.resize(draw(kinds[label], rng), (SIDE, SIDE)) for label in labels]
    images = (np.stack(pixels).transpose(0, 3, 1, 2) - np.float32(110)) / 60
    return images.astype(np.float32), labels.astype(np.float32)


train_set, test_set = scenes(48, seed=1), scenes(16, seed=2)

# %% [markdown]
# ## Three methods
# `relaybp.attach` lets each loss train its flow: {loss: the lowest layer that it trains}. Without
# flows every loss trains all layers below it. Both flows here have conv2 and conv3 in common.

# %%
FLOWS = {"loss": "conv2", "aux_loss": "conv1"}


def start(method):
    caffe.set_random_seed(1)  # the same initial weights
    param = caffe.proto.caffe_pb2.SolverParameter(
        base_lr=0.02, momentum=0.9, weight_decay=5e-4, lr_policy="fixed", max_iter=1000
    )
    param.train_net_param.CopyFrom(two_losses(auxiliary=method != "standard"))
    solver = caffe.get_solver(param)
    solver.net.set_input_arrays(*train_set)
    return relaybp.attach(solver, FLOWS if method == "relay" else None)


runs = {method: start(method) for method in ("standard", "joint", "relay")}
for method, run in runs.items():
    print(f"{method}:\n{run.flows}")
for run in runs.values():  # conv1 to conv6 begin alike
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc"):
        run.net.params[name][0].data[...] = runs["standard"].net.params[name][0].data
runs["relay"].net.params["aux_fc"][0].data[...] = runs["joint"].net.params["aux_fc"][0].data

# %% [markdown]
# ## Which loss reaches which layer?
# On the same weights and images: the norm of each layer's gradient. By relay, conv1 gets what the
# auxiliary loss gives alone, conv2 and conv3 get both losses, the layers above the primary one.

# %%
CONVS = [f"conv{k}" for k in range(1, 7)]
gradients = {}
for method, run in runs.items():
    run.net.clear_param_diffs()
    run.net.forward()
    run.backward()
    gradients[method] = {name: run.net.params[name][0].diff.copy() for name in CONVS}
print("gradient " + " ".join(f"{name:>8}" for name in CONVS))
for method, of in gradients.items():
    print(f"{method:8} " + " ".join(f"{np.linalg.norm(of[name]):8.4f}" for name in CONVS))


# %% [markdown]
# ## Train


# %%
def accuracy(run):
    """On the test images, with the net that learns: it has no dropout."""
    run.net.set_input_arrays(*test_set)
    batches = len(test_set[0]) // BATCH
    found = np.mean([float(run.net.forward()["accuracy"]) for _ in range(batches)])
    run.net.set_input_arrays(*train_set)
    return found


results = {}
for method, run in runs.items():
    run.net.set_input_arrays(*train_set)
    run.step(options.iterations)
    results[method] = accuracy(run)
    loss = float(run.net.blobs["loss"].data)
    print(f"{method}: loss {loss:.3f}, {results[method]:.1%} of the test images right")
