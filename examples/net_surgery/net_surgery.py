# %% [markdown]
# # Net surgery
#
# As in Caffe's notebook of this name, filters are edited by hand, and a net with fully connected
# layers becomes fully convolutional: its weights then classify every position of a larger image.
#
#     python examples/net_surgery/net_surgery.py

# %%
import cv2
import numpy as np

import caffe
from caffe import layers as L
from relaybp.data_prep.digits import draw_digit, draw_digits
from relaybp.data_prep.scenes import draw

caffe.set_random_seed(1)

# %% [markdown]
# ## Filters by hand
# One convolution with three filters, whose weights are written through `net.params`: no training.

# %%
n = caffe.NetSpec()
n.data = L.Input(shape={"dim": [1, 1, 128, 128]})
n.conv = L.Convolution(n.data, num_output=3, kernel_size=3, pad=1)
edges = caffe.Net(n.to_proto(), caffe.TEST)

photo = cv2.cvtColor(draw("mountains", np.random.RandomState(1)), cv2.COLOR_BGR2GRAY)
edges.blobs["data"].data[...] = photo

weights, bias = (blob.data for blob in edges.params["conv"])  # (3, 1, 3, 3), (3,)
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
weights[0, 0] = 1 / 9  # a blur
weights[1, 0], weights[2, 0] = sobel, sobel.T  # edges
bias[...] = 0
blurred, *gradients = edges.forward()["conv"][0].copy()
strength = np.hypot(*gradients)
print(f"strongest edge {strength.max():.0f}; the blur keeps the mean: {blurred.mean():.1f}")

# %%
bias[0] = 100  # what is written is what the next pass computes with
brighter = edges.forward()["conv"][0, 0]
print(f"a bias of 100 adds {float((brighter - blurred).mean()):.0f} everywhere")


# %% [markdown]
# ## A classifier of digits
# Two fully connected layers on top of convolutions, so its input has a fixed size, 28x28.


# %%
def trunk(n):
    xavier = {"type": "xavier"}
    n.conv1 = L.Convolution(n.data, num_output=16, kernel_size=5, weight_filler=xavier)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=32, kernel_size=5, weight_filler=xavier)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2)
    return n.pool2


n = caffe.NetSpec()
n.data, n.label = L.MemoryData(batch_size=50, channels=1, height=28, width=28, ntop=2)
n.fc1 = L.InnerProduct(trunk(n), num_output=64, weight_filler={"type": "xavier"})
n.relu3 = L.ReLU(n.fc1, in_place=True)
n.fc2 = L.InnerProduct(n.relu3, num_output=10, weight_filler={"type": "xavier"})
n.loss = L.SoftmaxWithLoss(n.fc2, n.label)
solver_param = caffe.proto.caffe_pb2.SolverParameter(
    base_lr=0.05, momentum=0.9, lr_policy="fixed", max_iter=150, train_net_param=n.to_proto()
)
solver = caffe.get_solver(solver_param)
images, labels = draw_digits(2000, seed=1)
solver.net.set_input_arrays(images.astype(np.float32) / 255, labels.astype(np.float32))
solver.step(150)

# %% [markdown]
# ## Fully connected to convolution
# An fc layer that sees 32 channels of 4x4 is a convolution of 4x4 with the same numbers in the same
# order: only the shape of its weights differs.

# %%
n = caffe.NetSpec()
n.data = L.Input(shape={"dim": [1, 1, 28, 28]})
n.fc1_conv = L.Convolution(trunk(n), num_output=64, kernel_size=4)
n.relu3 = L.ReLU(n.fc1_conv, in_place=True)
n.fc2_conv = L.Convolution(n.relu3, num_output=10, kernel_size=1)
n.prob = L.Softmax(n.fc2_conv)
full = caffe.Net(n.to_proto(), caffe.TEST)

for name in ("conv1", "conv2"):
    for mine, trained in zip(full.params[name], solver.net.params[name], strict=True):
        mine.data[...] = trained.data
for name in ("fc1", "fc2"):
    (weights, bias), (trained, its_bias) = full.params[f"{name}_conv"], solver.net.params[name]
    print(f"{name}: {trained.data.shape} becomes {weights.data.shape}")
    weights.data.flat = trained.data.flat
    bias.data[...] = its_bias.data

# %%
unseen, truth = draw_digits(200, seed=2)
full.blobs["data"].reshape(*unseen.shape)
right = (full.forward(data=unseen / np.float32(255))["prob"][:, :, 0, 0].argmax(1) == truth).mean()
print(f"on digits that it has not seen: {right:.1%} right")

# %% [markdown]
# ## A larger image
# The same weights, slid over three digits in a row: a map of classes, a column for each 4 pixels.

# %%
rng = np.random.RandomState(3)
row = np.hstack([draw_digit(digit, rng) for digit in (7, 4, 1)])  # (28, 84)
full.blobs["data"].reshape(1, 1, *row.shape)
found = full.forward(data=row[None, None] / np.float32(255))["prob"][0, :, 0]  # (10, 15)
read = found.argmax(0)[[0, 7, 14]]  # at 0, 28 and 56 pixels
print(f"the columns of the map read {found.argmax(0).tolist()}; at the digits: {read.tolist()}")
