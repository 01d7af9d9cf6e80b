# %% [markdown]
# # A Python data layer, with many labels for one image
#
# Caffe's notebook pascal-multilabel-with-datalayer trains on Pascal VOC; here an image holds any of
# four shapes, and is drawn. The data come from a layer in Python, `shapes_layer.py` beside this
# file; each label is a class of its own, so the loss is SigmoidCrossEntropyLoss.
#
#     python examples/multilabel/multilabel.py

# %%
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent if "__file__" in globals() else Path("examples/multilabel")
sys.path.insert(0, str(HERE))  # where Caffe finds the module of a Python layer

from shapes_layer import SHAPES  # noqa: E402

import caffe  # noqa: E402
from caffe import layers as L  # noqa: E402

caffe.set_random_seed(1)

# %% [markdown]
# ## The net
# The layer's options are a dict, as text, in `param_str`.


# %%
def multilabel_net(batch_size, seed):
    n = caffe.NetSpec()
    n.data, n.label = L.Python(
        module="shapes_layer",
        layer="ShapesDataLayer",
        param_str=str({"batch_size": batch_size, "seed": seed}),
        ntop=2,
    )
    msra = {"weight_filler": {"type": "msra"}}
    n.conv1 = L.Convolution(n.data, num_output=16, kernel_size=5, stride=2, **msra)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, num_output=32, kernel_size=3, **msra)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.conv3 = L.Convolution(n.relu2, num_output=32, kernel_size=3, **msra)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.pool3 = L.Pooling(n.relu3, global_pooling=True)
    n.score = L.InnerProduct(n.pool3, num_output=len(SHAPES), **msra)
    n.loss = L.SigmoidCrossEntropyLoss(n.score, n.label)
    return n.to_proto()


param = caffe.proto.caffe_pb2.SolverParameter(
    type="Adam", base_lr=0.005, momentum=0.9, momentum2=0.999, lr_policy="fixed", max_iter=200
)
param.train_net_param.CopyFrom(multilabel_net(32, seed=1))
param.test_net_param.add().CopyFrom(multilabel_net(200, seed=2))
param.test_iter.append(1)
param.test_interval = 1000
solver = caffe.get_solver(param)

# %%
solver.net.forward()
print("the labels of the first images, as", ", ".join(SHAPES))
print(solver.net.blobs["label"].data[:3].astype(int))


# %% [markdown]
# ## How many labels are right?
# The share of those of all images and classes, next to what one gets by saying "not there" always.


# %%
def right(net):
    net.forward()
    said, truth = net.blobs["score"].data > 0, net.blobs["label"].data > 0
    return (said == truth).mean(), (~truth).mean()


test_net = solver.test_nets[0]
solver.share_weights(test_net)
for done in range(0, 201, 50):
    accuracy, by_saying_no = right(test_net)
    print(f"{done} iterations: {accuracy:.1%} right; always saying no: {by_saying_no:.1%}")
    if done < 200:
        solver.step(50)

# %%
labels = test_net.blobs["label"].data
for image in np.flatnonzero(labels.sum(1) == 2)[:3]:
    scores = test_net.blobs["score"].data[image]
    there = [shape for shape, is_there in zip(SHAPES, labels[image], strict=True) if is_there]
    said = [shape for shape, score in zip(SHAPES, scores, strict=True) if score > 0]
    print(f"image {image} has {there}; the net says {said}")
