# %% [markdown]
# # Fine-tuning
#
# As in Caffe's notebook of this name, a net that was trained on much data gets a new last layer and
# is trained on few images of another task. `copy_from` copies layers by name, so the new layer has
# a new name. Compared with the same net from scratch, and with training the new layer alone.
#
# Here the first task is to read digits (2000 drawn ones), the second to say whether a digit is
# below 5, with 60 images.
#
#     python examples/02-fine-tuning/fine_tuning.py

# %%
import argparse
from pathlib import Path

import numpy as np

import caffe
from caffe import layers as L
from relaybp.data_prep.digits import draw_digits

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("data/examples/fine_tuning"))
options, _ = options.parse_known_args()
options.out.mkdir(parents=True, exist_ok=True)
STEPS = 60  # of the second task

# %% [markdown]
# ## One net, whose last layer has a name of its own for each task
# `learn_all=False` freezes the layers below: `lr_mult: 0`. The new layer learns ten times as fast.


# %%
def digit_net(last, outputs, learn_all=True, lr_mult=1):
    n = caffe.NetSpec()
    n.data, n.label = L.MemoryData(batch_size=20, channels=1, height=28, width=28, ntop=2)
    rates = [{"lr_mult": 1}, {"lr_mult": 2}] if learn_all else [{"lr_mult": 0}] * 2
    fixed = {"weight_filler": {"type": "xavier"}, "param": rates}
    n.conv1 = L.Convolution(n.data, num_output=16, kernel_size=5, **fixed)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=32, kernel_size=5, **fixed)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2)
    n.fc1 = L.InnerProduct(n.pool2, num_output=64, **fixed)
    n.relu3 = L.ReLU(n.fc1, in_place=True)
    n[last] = L.InnerProduct(
        n.relu3,
        num_output=outputs,
        weight_filler={"type": "xavier"},
        param=[{"lr_mult": lr_mult}, {"lr_mult": 2 * lr_mult}],
    )
    n.loss = L.SoftmaxWithLoss(n[last], n.label)
    n.accuracy = L.Accuracy(n[last], n.label)
    return n.to_proto()


def solver_of(net, images, labels, base_lr, weights=None):
    caffe.set_random_seed(1)
    param = caffe.proto.caffe_pb2.SolverParameter(
        base_lr=base_lr, momentum=0.9, lr_policy="fixed", max_iter=1000, train_net_param=net
    )
    solver = caffe.get_solver(param)
    if weights:
        solver.net.copy_from(weights)
    solver.net.set_input_arrays(images.astype(np.float32) / 255, labels.astype(np.float32))
    return solver


def accuracy(solver, images, labels):
    """Over the 400 images; the net that learns is used, since it has no dropout."""
    solver.net.set_input_arrays(images.astype(np.float32) / 255, labels.astype(np.float32))
    return np.mean([float(solver.net.forward()["accuracy"]) for _ in range(len(images) // 20)])


# %% [markdown]
# ## The first task

# %%
pretrained = solver_of(digit_net("fc2", 10), *draw_digits(2000, seed=1), base_lr=0.02)
pretrained.step(300)
weights = str(options.out / "digits.caffemodel")
pretrained.net.save(weights)
test_images, test_digits = draw_digits(400, seed=3)
print(f"digits: {accuracy(pretrained, test_images, test_digits):.1%} right")

# %% [markdown]
# ## The second task, with 60 images
# A layer that the file does not have (`fc2_small`) keeps what its filler gave it.

# %%
few_images, few_digits = draw_digits(60, seed=2)
few, test_labels = few_digits < 5, test_digits < 5
runs = {
    "from scratch": solver_of(digit_net("fc2_small", 2), few_images, few, 0.01),
    "new layer alone": solver_of(
        digit_net("fc2_small", 2, learn_all=False, lr_mult=10), few_images, few, 0.002, weights
    ),
    "fine-tuned": solver_of(digit_net("fc2_small", 2, lr_mult=10), few_images, few, 0.002, weights),
}
frozen = runs["new layer alone"].net.params["conv1"][0].data.copy()
results = {}
for name, solver in runs.items():
    solver.step(STEPS)
    results[name] = accuracy(solver, test_images, test_labels)
    print(f"{name}: {results[name]:.1%} right")
