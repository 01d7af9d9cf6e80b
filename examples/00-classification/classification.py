# %% [markdown]
# # Classification, and a look inside
#
# As in Caffe's first notebook, an image is read and preprocessed, a net like CaffeNet says what
# is on it, and its filters, activations and scores are looked at. The notebook downloads CaffeNet;
# here a small net of the same form is trained on drawn scenes first, which takes some seconds.
#
#     python examples/00-classification/classification.py

# %%
import argparse
from pathlib import Path

import cv2
import matplotlib
import numpy as np

import caffe
from caffe import layers as L
from relaybp.data_prep.scenes import draw

matplotlib.use("Agg")  # in a notebook leave this line out
import matplotlib.pyplot as plt

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("data/examples/classification"))
options, _ = options.parse_known_args()
options.out.mkdir(parents=True, exist_ok=True)
caffe.set_random_seed(1)
CLASSES = ["beach", "forest", "city_night", "underwater"]
SIDE = 48  # pixels; CaffeNet has 227
SCALE = 1 / 64  # of pixels minus mean; CaffeNet has 1

# %% [markdown]
# ## A trained net
# conv, relu, pool, norm, ..., fc, relu, dropout, fc, prob: CaffeNet's layers, fewer and narrower.


# %%
def small_caffenet(n):
    weights = {"weight_filler": {"type": "msra"}}
    n.conv1 = L.Convolution(n.data, num_output=24, kernel_size=7, stride=2, **weights)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=3, stride=2)
    n.norm1 = L.LRN(n.pool1, local_size=5, alpha=1e-4, beta=0.75)
    n.conv2 = L.Convolution(n.norm1, num_output=32, kernel_size=3, pad=1, group=2, **weights)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.relu2, kernel_size=3, stride=2)
    n.fc6 = L.InnerProduct(n.pool2, num_output=64, **weights)
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.drop6 = L.Dropout(n.relu6, in_place=True)
    n.fc8 = L.InnerProduct(n.drop6, num_output=len(CLASSES), weight_filler={"type": "xavier"})
    return n.fc8


def photos(per_class, seed):
    """BGR pixels (N, 3, SIDE, SIDE) in [0, 255], and their labels."""
    rng = np.random.RandomState(seed)
    labels = rng.permutation(np.arange(per_class * len(CLASSES)) % len(CLASSES))
    pixels = [cv2.resize(draw(CLASSES[label], rng), (SIDE, SIDE)) for label in labels]
    return np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32), labels.astype(np.float32)


images, labels = photos(60, seed=1)
mean = images.mean(axis=(0, 2, 3))  # of blue, green and red
n = caffe.NetSpec()
n.data, n.label = L.MemoryData(batch_size=16, channels=3, height=SIDE, width=SIDE, ntop=2)
n.loss = L.SoftmaxWithLoss(small_caffenet(n), n.label)
param = caffe.proto.caffe_pb2.SolverParameter(
    base_lr=0.01, momentum=0.9, lr_policy="fixed", max_iter=120, train_net_param=n.to_proto()
)
solver = caffe.get_solver(param)
solver.net.set_input_arrays((images - mean[:, None, None]) * SCALE, labels)
solver.step(120)
solver.net.save(str(options.out / "small.caffemodel"))

n = caffe.NetSpec()
n.data = L.Input(shape={"dim": [10, 3, SIDE, SIDE]})
n.prob = L.Softmax(small_caffenet(n))
(options.out / "deploy.prototxt").write_text(str(n.to_proto()))
cv2.imwrite(str(options.out / "photo.jpg"), draw("beach", np.random.RandomState(77)))

# %% [markdown]
# ## Load the net, and prepare its input
# `caffe.io.load_image` gives RGB in [0, 1] as (H, W, C); the net wants BGR in [0, 255] minus the
# mean, as (C, H, W). The Transformer does that, in Caffe's order.

# %%
net = caffe.Net(
    str(options.out / "deploy.prototxt"), str(options.out / "small.caffemodel"), caffe.TEST
)
transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
transformer.set_mean("data", mean)
transformer.set_raw_scale("data", 255)
transformer.set_channel_swap("data", (2, 1, 0))
transformer.set_input_scale("data", SCALE)

net.blobs["data"].reshape(1, 3, SIDE, SIDE)  # one image, not a batch of ten
photo = caffe.io.load_image(str(options.out / "photo.jpg"))
net.blobs["data"].data[...] = transformer.preprocess("data", photo)

# %% [markdown]
# ## What is on it?

# %%
probabilities = net.forward()["prob"][0]
for index in probabilities.argsort()[::-1]:
    print(f"{probabilities[index]:.4f} {CLASSES[index]}")

# %% [markdown]
# ## Activations and parameters
# A blob is (N, C, H, W). A layer's parameters are its weights and biases.

# %%
for name, blob in net.blobs.items():
    print(f"{name:6} {blob.data.shape}")
for name, blobs in net.params.items():
    print(f"{name:6} {' '.join(str(blob.data.shape) for blob in blobs)}")


# %%
def tiles(data):
    """One picture of data (N, H, W) or (N, H, W, 3): its images side by side, values in [0, 1]."""
    data = (data - data.min()) / (data.max() - data.min())
    side = int(np.ceil(np.sqrt(len(data))))
    gaps = ((0, side**2 - len(data)), (0, 1), (0, 1)) + ((0, 0),) * (data.ndim - 3)
    data = np.pad(data, gaps, constant_values=1)  # white
    data = data.reshape(side, side, *data.shape[1:]).swapaxes(1, 2)
    return data.reshape(side * data.shape[1], side * data.shape[3], *data.shape[4:])


filters = tiles(net.params["conv1"][0].data.transpose(0, 2, 3, 1)[..., ::-1])  # RGB
activations = tiles(net.blobs["conv1"].data[0])

figure, panels = plt.subplots(2, 2, figsize=(9, 8), layout="constrained")
panels[0, 0].imshow(transformer.deprocess("data", net.blobs["data"].data[0]).clip(0, 1))
panels[0, 0].set_title("what the net sees")
panels[0, 1].imshow(filters)
panels[0, 1].set_title("filters of conv1")
panels[1, 0].imshow(activations, cmap="gray")
panels[1, 0].set_title("conv1, after its ReLU")
panels[1, 1].barh(CLASSES, probabilities)
panels[1, 1].invert_yaxis()  # the first on top
panels[1, 1].set_title("probabilities")
figure.savefig(options.out / "inside.png")
plt.close(figure)

# %% [markdown]
# ## Many images
# `caffe.Classifier` does all of the above: it takes a list of images and averages over ten crops.

# %%
classifier = caffe.Classifier(
    str(options.out / "deploy.prototxt"),
    str(options.out / "small.caffemodel"),
    mean=mean,
    raw_scale=255,
    channel_swap=(2, 1, 0),
    input_scale=SCALE,
    image_dims=(56, 56),
)
unseen, truth = photos(5, seed=2)
found = classifier.predict([image.transpose(1, 2, 0)[..., ::-1] / 255 for image in unseen])
right = (found.argmax(1) == truth).mean()
print(f"{options.out / 'inside.png'}: {right:.0%} of {len(truth)} unseen scenes are right")
